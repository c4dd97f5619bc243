"""How the reviews of a search stand, as a broker says it and as it may be believed.

A status that fails one of these is ``RESULT_INVALID`` with ``check`` ``reviews`` or that of a
receipt:

1. It is of this search, and at least two people must review.
2. While another review is needed it tells no opinion; the second reviewer could read it.
3. Once none is, at least as many reviews count as are needed, one more if people disagreed, and
   there is exactly one standing for every candidate of the search's own verified reports.
4. A potential candidate stands on at least as many different counted reviews of its agency's
   candidates as people are needed, and on no more than count.
5. The receipt proves the log's own entry that all is settled, with as many reviews, and with the
   same number of each opinion.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import Any, Final

from audit import kinds
from audit.leaves import parse_leaf
from force_client.ground import Ground, invalid
from force_client.second_step.checks import Matter, check_receipt, same
from force_client.second_step.models import CandidateStanding, Receipt, ReviewStatus
from trust.dsse import Envelope
from trust.messages import SHA256_BYTES
from trust.second_step import Opinion, Review
from trust.wire import decode

RECORDED: Final = kinds.REVIEWED
SETTLED: Final = kinds.SETTLED
REVOKED: Final = kinds.REVOKED
FEWEST_REVIEWERS: Final = 2


def verify_status(
    status: ReviewStatus, receipt: Receipt | None, matter: Matter, ground: Ground
) -> ReviewStatus:
    """Return a status that may be relied on.

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    check_shape(status, matter)
    if status.open:
        if receipt is not None:
            raise invalid("settled and open", "reviews")
        return status
    settled = check_receipt(  # (5)
        receipt,
        ground,
        {
            "type": SETTLED,
            "search_id": status.search_id,
            "disagreement": status.disagreement,
        },
    )
    _check_settled(parse_leaf(settled.leaf), status)
    return status


def check_shape(status: ReviewStatus, matter: Matter) -> None:
    """Check all of a status that needs no receipt: rules (1) to (4).

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    same(status.search_id, matter.search_id, "search", "reviews")
    if status.needed < FEWEST_REVIEWERS:  # (1)
        raise invalid("one person alone cannot review", "reviews")
    if status.open:
        if status.candidates:  # (2)
            raise invalid("an opinion is told while reviews are open", "reviews")
        return
    if status.reviews < status.needed:  # (3)
        raise invalid("settled with too few reviews", "reviews")
    if status.disagreement and status.reviews == status.needed:
        raise invalid("settled by people who disagree", "reviews")
    stated = [(one.agency, one.reference) for one in status.candidates]
    if sorted(stated) != sorted(matter.candidates):
        raise invalid("not one standing for every candidate", "reviews")
    for one in status.candidates:
        _check_counted(one, status)


def verify_recorded(
    receipt: Receipt | None, reviews: tuple[Envelope, ...], matter: Matter, ground: Ground
) -> None:
    """Check that the log records the very reviews that were sent.

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    said = [(decode(Review, one.payload), digest_of(one)) for one in reviews]
    check_receipt(
        receipt,
        ground,
        {
            "type": RECORDED,
            "search_id": matter.search_id,
            "order_sha256": matter.order.sha256.hex(),
            "review_id": said[0][0].review_id,
            "reviews": {one.agency: digest.hex() for one, digest in said},
        },
    )


def digest_of(envelope: Envelope) -> bytes:
    """Return SHA-256 of what was signed, by which everything later names it."""
    return sha256(envelope.payload).digest()


def _check_counted(one: CandidateStanding, status: ReviewStatus) -> None:
    """Rule (4)."""
    counted = one.review_sha256s
    if any(len(digest) != SHA256_BYTES for digest in counted) or len(set(counted)) != len(counted):
        raise invalid("a review is counted twice, or is none", "reviews")
    if len(counted) > status.reviews:
        raise invalid("more reviews than count", "reviews")
    if one.opinion is Opinion.POTENTIAL_CANDIDATE and len(counted) < status.needed:
        raise invalid("a potential candidate without enough reviews", "reviews")


def _check_settled(entry: Any, status: ReviewStatus) -> None:
    """Rule (5)."""
    recorded = entry.get("reviews")
    if not isinstance(recorded, list) or len(set(map(str, recorded))) != status.reviews:
        raise invalid("the entry counts other reviews", "receipt_leaf")
    counts = Counter(one.opinion.value for one in status.candidates)
    if entry.get("counts") != {one.value: counts[one.value] for one in Opinion}:
        raise invalid("the entry counts other opinions", "receipt_leaf")
