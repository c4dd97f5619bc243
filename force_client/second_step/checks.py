"""Signatures and receipts of the second step: what a broker shows is checked, then believed.

1. A receipt proves an entry of the kind that was asked for, with the very ids and digests that this
   force knows (``Ground``).
2. An agency's word is the agency's: its signature verifies under its own key in the directory,
   which was valid at the instant that is proved for it (when the log's entry was made; for an
   image, which has none, when it came) and at the one that it states. What is proved lies in the
   search's time, and nothing was recorded before it was said.
3. Any failure is ``RESULT_INVALID`` with the failed ``check``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from force_client.ground import Ground, failing, invalid, recorded_at
from force_client.orders import SignedOrder
from force_client.second_step.models import Receipt
from force_client.settings import MAX_CLOCK_SKEW
from trust import dsse
from trust.directory import KeyUse, Role
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Model
from trust.payload_types import PayloadType
from trust.second_step import CandidateImage, Disclosure, Recall, ReleaseDecision
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


def proof_time(receipt: Receipt | None) -> datetime:
    """Return when a receipt's entry says that it was made; it counts once the receipt is checked.

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    if receipt is None:
        raise invalid("no receipt", "receipt")
    return recorded_at(receipt.leaf)


def signed_by_agency(
    envelope: Envelope,
    kind: type[_Said],
    agency: str,
    ground: Ground,
    check: str,
    *,
    proved: datetime,
) -> _Said:
    """Return what an agency signed (2).

    Args:
        envelope: what the broker sent.
        kind: what it must be.
        agency: whose word it is.
        ground: what its proofs stand on.
        check: what a failure is called.
        proved: the instant that is proved for it, from ``proof_time``.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with ``check``.
    """
    payload_type, stating = _KINDS[kind]
    with failing(check):
        ground.directory.member(agency, Role.AGENCY)
        resolve = ground.directory.resolver(agency, KeyUse.SIGN, proved)
        kids = dsse.verify(envelope, payload_type, resolve)
        said = decode(kind, envelope.payload)
        stated: datetime = getattr(said, stating)
        ground.require_valid(agency, kids, stated)
    if not ground.in_time(proved) or stated > proved + MAX_CLOCK_SKEW:
        raise invalid("not recorded when it was said", check)
    return said


_KINDS: Final[Mapping[type[Model], tuple[PayloadType, str]]] = {
    CandidateImage: (PayloadType.CANDIDATE_IMAGE, "sent_at"),
    Disclosure: (PayloadType.DISCLOSURE, "released_at"),
    Recall: (PayloadType.RECALL, "recalled_at"),
    ReleaseDecision: (PayloadType.RELEASE_DECISION, "decided_at"),
}
"""The payload type of each kind, and the field that states when it was said."""


def same(stated: object, known: object, what: str, check: str) -> None:
    """Refuse what is about another thing.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with ``check``.
    """
    if stated != known:
        raise invalid(f"of another {what}", check)
