"""Recalls of what was given out, and the notices that a force signs about candidates and people.

1. A recall is believed of its agency alone: signed under a key that was its own when the recall was
   made and when the broker recorded it, of a search that this force ordered and a candidate that
   the agency's own report lists, and on the broker's log. Where what the agency found is gone, or
   another client of this force keeps the search's order, the signature and the log are what there
   is. They are enough to stop: details of a candidate are kept for longer than what listed it, and
   a mark too many takes nothing from anybody.
2. What is believed is marked on the disk before anybody is told of it: from then on its details are
   neither read out nor exported here.
3. Nothing is acknowledged before that mark is there: an acknowledgement says that it is used no
   more.
"""

from __future__ import annotations

from typing import Final

from audit import kinds
from force_client.ground import Ground, invalid
from force_client.second_step.checks import (
    Matter,
    check_receipt,
    proof_time,
    same,
    signed_by_agency,
)
from force_client.second_step.models import RecallView, ReceivedRecall
from force_client.second_step.reviews import digest_of
from trust import dsse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.messages import Model
from trust.payload_types import PayloadType
from trust.second_step import (
    Corroboration,
    Recall,
    RecallAcknowledgement,
    ReviewerRevocation,
    WrongMatch,
)
from trust.wire import decode, encode

RECEIVED: Final = kinds.RECALL_RECEIVED
ACKNOWLEDGED: Final = kinds.RECALL_ACKNOWLEDGED
WRONG: Final = kinds.WRONG_MATCH
CORROBORATED: Final = kinds.CORROBORATED

_TYPES: Final = {
    Corroboration: PayloadType.CORROBORATION,
    RecallAcknowledgement: PayloadType.RECALL_ACKNOWLEDGEMENT,
    ReviewerRevocation: PayloadType.REVIEWER_REVOCATION,
    WrongMatch: PayloadType.WRONG_MATCH,
}


def signed_notice(notice: Model, signer: Signer) -> Envelope:
    """Sign one of the force's notices."""
    return dsse.sign(_TYPES[type(notice)], encode(notice), signer)


def stated(received: ReceivedRecall) -> Recall:
    """Return what a recall says of itself, to find the search; nothing is verified.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with ``check`` ``recall``.
    """
    try:
        return decode(Recall, received.recall.payload)
    except ProbegateError as error:
        raise ProbegateError(Reason.RESULT_INVALID, error.detail, check="recall") from None


def verify_recall(received: ReceivedRecall, matter: Matter | None, ground: Ground) -> RecallView:
    """Return a recall that may be relied on (1).

    Args:
        received: what the broker sent.
        matter: the search, unless it cannot be read any more.
        ground: since the order was made; without the search, since the recall was recorded.

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    agency = stated(received).agency
    recall = signed_by_agency(
        received.recall, Recall, agency, ground, "recall", proved=proof_time(received.receipt)
    )
    if matter is not None:
        _require_candidate(recall, matter, ground)
    check_receipt(
        received.receipt,
        ground,
        {
            "type": RECEIVED,
            "search_id": recall.search_id,
            "agency": agency,
            "reference": recall.reference,
            "recall_id": recall.recall_id,
            "recall_sha256": digest_of(received.recall).hex(),
            "reason": recall.reason.value,
        },
    )
    return RecallView(received.number, recall, received.acknowledged_at)


def _require_candidate(recall: Recall, matter: Matter, ground: Ground) -> None:
    same(recall.search_id, matter.search_id, "search", "recall")
    same(recall.order_sha256, matter.order.sha256, "order", "recall")
    listed = (recall.agency, recall.reference) in matter.candidates
    listed = listed or recall.agency in matter.gone  # nobody can say any more
    if not listed or not ground.in_time(recall.recalled_at):
        raise invalid("not of a candidate of this search", "recall")
