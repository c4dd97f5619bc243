"""Signatures and receipts of the second step: what a broker shows is checked, then believed.

1. A receipt proves an entry of the kind that was asked for, with the very ids and digests that this
   force knows (``Ground``).
2. An agency's word is the agency's: its signature verifies under its own key in the directory,
   judged at instants of ours (when the order was made, or now), and it is about this very search.
3. Any failure is ``RESULT_INVALID`` with the failed ``check``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from force_client.ground import Ground, failing, invalid
from force_client.orders import SignedOrder
from force_client.second_step.models import Receipt
from trust import dsse
from trust.directory import Role
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Model
from trust.payload_types import PayloadType
from trust.wire import decode

_Said = TypeVar("_Said", bound=Model)


@dataclass(frozen=True, slots=True)
class Matter:
    """One search with the order that this force signed."""

    search_id: str
    order: SignedOrder
    reports: Mapping[str, tuple[bytes, tuple[str, ...]]]
    """Of each agency that listed candidates, in the order's sequence: the digest of its report,
    and its references."""
    gone: frozenset[str] = frozenset()
    """The agencies that listed candidates which were erased since."""

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
            ProbegateError: ``reason`` if no report of this search does; ``RESULT_GONE`` if what
                that agency found was erased.
        """
        if agency in self.gone:
            raise ProbegateError(Reason.RESULT_GONE, agency=agency)
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
    ground.proved(receipt.proof, receipt.leaf, expected)
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
        dsse.verify(envelope, _TYPES[kind.__name__], ground.resolver(agency))
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
