"""Signatures and receipts of the second step: what a broker shows is checked, then believed.

1. A receipt proves, under the broker's search-log key in the directory, an entry of the kind that
   was asked for, with the very ids and digests that this force knows.
2. An agency's word is the agency's: its signature verifies under its own key in the directory,
   judged at instants of ours (when the order was made, or now), and it is about this very search.
3. Any failure is ``RESULT_INVALID`` with the failed ``check``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from audit.leaves import parse_leaf
from audit.notes import VerifierKey
from audit.proofs import verify_receipt
from force_client.orders import SignedOrder
from force_client.second_step.models import Receipt
from force_client.settings import MAX_CLOCK_SKEW
from trust import dsse
from trust.directory import Directory, KeyUse, MemberKey, Role
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.member_folder import LOG_SEARCH
from trust.messages import Model
from trust.payload_types import PayloadType
from trust.wire import decode

_Said = TypeVar("_Said", bound=Model)
_SEARCH_LOG: Final = f"/{LOG_SEARCH.name_part}"
"""The end of a search log's name."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a check stands on: the members, their broker, and instants of this force's own."""

    directory: Directory
    broker: str
    now: datetime
    since: datetime
    """When what is checked can have begun: when the order or the request was made."""

    def in_time(self, moment: datetime) -> bool:
        """Whether something was made since then and not in the future."""
        return self.since - MAX_CLOCK_SKEW <= moment <= self.now + MAX_CLOCK_SKEW


@dataclass(frozen=True, slots=True)
class Matter:
    """One search with the order that this force signed."""

    search_id: str
    order: SignedOrder
    reports: Mapping[str, tuple[bytes, tuple[str, ...]]]
    """Of each agency that listed candidates, in the order's sequence: the digest of its report,
    and its references."""

    @property
    def candidates(self) -> tuple[tuple[str, str], ...]:
        """Agency and reference of every candidate."""
        return tuple(
            (agency, reference)
            for agency, (_, references) in self.reports.items()
            for reference in references
        )

    def report_of(self, agency: str, reference: str, reason: Reason) -> bytes:
        """Return the digest of the report that lists a candidate.

        Raises:
            ProbegateError: ``reason`` if no report of this search does.
        """
        digest, references = self.reports.get(agency, (b"", ()))
        if reference not in references:
            raise ProbegateError(reason, "not a candidate of this search", field="reference")
        return digest


def check_receipt(receipt: Receipt | None, ground: Ground, expected: Mapping[str, Any]) -> Receipt:
    """Return a receipt that proves an entry with the expected facts (1).

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    if receipt is None:
        raise invalid("no receipt", "receipt")
    with failing("receipt"):
        text = _text(receipt.proof)
        signed = verify_receipt(text, _log_keys(ground), receipt.leaf)
        leaf = parse_leaf(receipt.leaf)
    if not signed.checkpoint.origin.endswith(_SEARCH_LOG):
        raise invalid("of another log", "receipt")
    for name, value in ({"v": 1} | dict(expected)).items():
        if leaf.get(name) != value:
            raise invalid(f"the entry states another {name}", "receipt_leaf")
    return receipt


def signed_by_agency(
    envelope: Envelope, kind: type[_Said], agency: str, ground: Ground, check: str
) -> _Said:
    """Return what an agency signed (2).

    Raises:
        ProbegateError: ``RESULT_INVALID`` with ``check``.
    """
    with failing(check):
        ground.directory.member(agency, Role.AGENCY)
        dsse.verify(envelope, _TYPES[kind.__name__], _resolver(ground, agency))
        return decode(kind, envelope.payload)


_TYPES: Final[Mapping[str, PayloadType]] = {
    "CandidateImage": PayloadType.CANDIDATE_IMAGE,
    "Disclosure": PayloadType.DISCLOSURE,
    "Recall": PayloadType.RECALL,
    "ReleaseDecision": PayloadType.RELEASE_DECISION,
}


def same(stated: object, known: object, what: str, check: str) -> None:
    """Refuse what is about another thing.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with ``check``.
    """
    if stated != known:
        raise invalid(f"of another {what}", check)


@contextmanager
def failing(check: str) -> Iterator[None]:
    """Turn whatever is refused inside into ``RESULT_INVALID`` (3)."""
    try:
        yield
    except ProbegateError as error:
        raise invalid(f"{error.reason.name} {error.detail}".strip(), check) from None


def invalid(why: str, check: str) -> ProbegateError:
    """Return the one error of a check that failed."""
    return ProbegateError(Reason.RESULT_INVALID, why, check=check)


def _resolver(ground: Ground, member: str) -> dsse.Resolve:
    first, second = (
        ground.directory.resolver(member, KeyUse.SIGN, at) for at in (ground.since, ground.now)
    )

    def resolve(kid: str) -> bytes:
        try:
            return first(kid)
        except ProbegateError:
            return second(kid)

    return resolve


def _log_keys(ground: Ground) -> list[VerifierKey]:
    known: dict[str, MemberKey] = {}
    for at in (ground.since, ground.now):
        for key in ground.directory.keys(ground.broker, KeyUse.LOG, at):
            if key.name is not None and key.name.endswith(_SEARCH_LOG):
                known[key.kid] = key
    return [VerifierKey.listed(key) for key in known.values()]


def _text(receipt: bytes) -> str:
    try:
        return receipt.decode()
    except UnicodeDecodeError:
        raise ProbegateError(Reason.LOG_PROOF_INVALID, "not text") from None
