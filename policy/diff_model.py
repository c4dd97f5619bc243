"""What a comparison of two versions of the agreements found (``policy.diff``)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from policy.cells import as_mapping
from policy.decision import DecisionCode
from policy.facts import Facts


class Change(StrEnum):
    """What became of a request, an agreement or a pair of parties."""

    PERMITTED = "permitted"
    DENIED = "denied"
    APPEARED = "appeared"
    VANISHED = "vanished"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class AgreementChange:
    """An agreement that appeared, vanished or has another text; versions are ``None`` where not."""

    change: Change
    agency: str
    agreement_id: str
    old_version: int | None
    new_version: int | None


@dataclass(frozen=True, slots=True)
class PartyChange:
    """An agency and a force that have an agreement in one version only."""

    change: Change
    agency: str
    force: str


@dataclass(frozen=True, slots=True)
class Flip:
    """A request that one version permits, by ``agreement_id``, and the other denies.

    ``failed`` and ``reasons`` are the denying version's, ids and in words.
    """

    change: Change
    agency: str
    force: str
    facts: Facts
    agreement_id: str
    code: DecisionCode
    failed: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def request(self) -> dict[str, Any]:
        """The request as a file of facts states it."""
        return as_mapping(self.facts)


@dataclass(frozen=True, slots=True)
class DutyChange:
    """A request that both versions permit, with other obligations: field, old and new value."""

    agency: str
    force: str
    facts: Facts
    old_agreement_id: str
    new_agreement_id: str
    fields: tuple[tuple[str, Any, Any], ...]

    @property
    def request(self) -> dict[str, Any]:
        """The request as a file of facts states it."""
        return as_mapping(self.facts)


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """Every difference between two versions at an instant."""

    at: datetime
    old_sha256: bytes
    new_sha256: bytes
    agreements: tuple[AgreementChange, ...]
    parties: tuple[PartyChange, ...]
    flips: tuple[Flip, ...]
    duties: tuple[DutyChange, ...]
    incomplete: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every request has the same answer with the same obligations, as far as looked."""
        return not (self.flips or self.duties or self.parties or self.incomplete)
