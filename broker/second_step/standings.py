"""How the reviews of a search stand, read from what is kept, and put on the log once settled.

1. A standing is made anew each time from the result as it stands, the agreements as they are, the
   sittings that are kept and the reviewers who were revoked: nothing about it is remembered.
2. Nobody is shown a settled standing before the entry that says so is durable. A process that died
   between the last sitting and that entry leaves it to whoever looks next.
"""

from __future__ import annotations

from dataclasses import dataclass

from audit.writer import LogWriter, NewEntry
from broker.models import SearchRecord
from broker.second_step import leaves
from broker.second_step.agreed import Agreed
from broker.second_step.models import StatusView
from broker.second_step.opening import listed_in
from broker.second_step.receipts import Receipts
from broker.second_step.review_store import Reviewed, ReviewStore
from broker.second_step.rules import Standing, standing_of
from trust.clock import Clock
from trust.errors import ProbegateError, Reason


@dataclass(frozen=True, slots=True)
class Standings:
    """Reads standings; the broker's core has one."""

    reviews: ReviewStore
    agreed: Agreed
    log: LogWriter
    receipts: Receipts
    clock: Clock

    async def of(self, record: SearchRecord) -> tuple[Reviewed, Standing]:
        """Return the sittings of a search and how they stand (1).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        reviewed = await self.reviews.of(record.force, record.search_id)
        listed = listed_in(record)
        needed = self.agreed.needed(record, listed)
        return reviewed, standing_of(listed, needed, reviewed.sittings)

    async def view(self, record: SearchRecord) -> StatusView:
        """Return how the reviews stand as a force may see it (2).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` or the log's own failure.
        """
        _, standing = await self.of(record)
        if not standing.settled:
            return StatusView(record.search_id, standing)
        index = await self._settled(record.search_id, standing)
        return StatusView(record.search_id, standing, self.receipts.of(index))

    async def _settled(self, search_id: str, standing: Standing) -> int:
        index = await self.reviews.settlement(search_id, standing)
        if index is not None:
            return index
        leaf = leaves.review_settled(search_id, standing, self.clock())
        also = self.reviews.settled(search_id, standing)
        try:
            return (await self.log.append(NewEntry(leaf=leaf, also=also))).index
        except ProbegateError as error:
            if error.reason is not Reason.SERVER_BUSY:
                raise
            # Somebody else looked at once: the first entry stands.
            index = await self.reviews.settlement(search_id, standing)
            if index is None:
                raise
            return index
