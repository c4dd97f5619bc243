"""What a broker shows an agency of its log, besides the search at hand: entries with their place.

All of it is proved under the one checkpoint of the dossier it comes with. The agency judges it
(``agency_adapters.evidence``). That an agency's statement proves an answer is checked at both
sides, and so here (``answered_at``): the broker then shows what the agency will accept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trust import dsse
from trust.directory import Directory, KeyUse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType
from trust.wire import decode_statement

ORDER_ENTRY: Final = "search.order"
"""The type of the entry that records an order and its decisions."""
CONFIRMED_ENTRY: Final = "search.confirmed"
"""The type of the entry that records an urgent search's confirmation."""


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry, exact bytes, with its index and its inclusion proof."""

    leaf: bytes
    index: int
    inclusion: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class EarlierSearch:
    """An earlier search of the same probe for the same case, and who says they answered it.

    Attributes:
        order: the entry that recorded its order.
        statements: an ``AnswerStatement`` signed by each agency that answered, which says of which
            probe and case it is.
    """

    order: LoggedEntry
    statements: tuple[Envelope, ...]


@dataclass(frozen=True, slots=True)
class ConfirmedSearch:
    """An urgent search that was confirmed in writing.

    Attributes:
        entry: the entry that recorded the confirmation.
        confirmation: the ``UrgentConfirmation`` that the force signed.
    """

    entry: LoggedEntry
    confirmation: Envelope


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything of the kind that one agency is shown with one search."""

    earlier: tuple[EarlierSearch, ...] = ()
    confirmed: tuple[ConfirmedSearch, ...] = ()


NO_EVIDENCE: Final = Evidence()
"""Nothing to show."""


def no_evidence(field: str) -> ProbegateError:
    """Return why something shown proves nothing."""
    return ProbegateError(Reason.LOG_PROOF_INVALID, "no evidence", field=field)


def answered_at(
    statement: Envelope,
    *,
    agency: str,
    search_id: object,
    order_sha256: object,
    matter_sha256: bytes,
    directory: Directory,
    now: datetime,
    skew: timedelta,
) -> datetime:
    """Return when an agency answered a search, by its own signed statement.

    One that is dated within the clock skew, by a clock ahead of ours, counts as made now.

    Args:
        statement: an ``AnswerStatement``, as it was kept or shown.
        agency: who must have signed it, with a key that is listed and valid now.
        search_id: the search's id, as its entry has it.
        order_sha256: its order's digest, hexadecimal, as its entry has it.
        matter_sha256: the probe, case and force that the answer must have been about.
        directory: the directory in force.
        now: the instant of the decision.
        skew: how far ahead another's clock may be.

    Raises:
        ProbegateError: the envelope's or its key's reason, ``OUTCOME_INVALID``, or
            ``LOG_PROOF_INVALID`` for a statement of something else or of the future.
    """
    resolve = directory.resolver(agency, KeyUse.SIGN, now)
    dsse.verify(statement, PayloadType.ANSWER_STATEMENT, resolve)
    said = decode_statement(statement.payload)
    about = (said.agency, said.search_id, said.order_sha256.hex(), said.matter_sha256)
    if about != (agency, search_id, order_sha256, matter_sha256):
        raise no_evidence("statement")
    if said.answered_at > now + skew:
        raise no_evidence("answered_at")
    return min(said.answered_at, now)
