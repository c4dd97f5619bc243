"""Who may review a search: rules for one person, from what is signed and what is on record.

1. A reviewer has no other part in the search: neither its officer nor its authoriser, however their
   ids are spelt.
2. A reviewer has an accreditation that is valid on the day.
3. A reviewer was not revoked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from broker.second_step.models import KeptRevocation
from broker.second_step.review_store import is_revoked
from trust.clock import to_us
from trust.errors import ProbegateError, Reason
from trust.messages import Person, SearchOrder
from trust.people import same_person


def require_reviewer(
    reviewer: Person,
    order: SearchOrder,
    revocations: Sequence[KeptRevocation],
    at: datetime,
) -> None:
    """Check that a person may review a search.

    Args:
        reviewer: who they are, as their token says.
        order: the search's.
        revocations: everything that the force revoked.
        at: when they review.

    Raises:
        ProbegateError: ``REVIEW_NOT_INDEPENDENT``, ``REVIEWER_NOT_ACCREDITED`` or
            ``REVIEWER_REVOKED``.
    """
    for other in (order.officer, order.authoriser):  # (1)
        if same_person(reviewer.id, other.id):
            raise ProbegateError(Reason.REVIEW_NOT_INDEPENDENT, field="reviewer")
    expires = reviewer.accreditation_expires
    if not reviewer.accreditation or expires is None or expires < at.astimezone(UTC).date():  # (2)
        raise ProbegateError(Reason.REVIEWER_NOT_ACCREDITED, field="reviewer.accreditation")
    if is_revoked(revocations, reviewer.id, to_us(at)):  # (3)
        raise ProbegateError(Reason.REVIEWER_REVOKED, field="reviewer")
