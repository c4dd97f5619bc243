"""Which searches hold something whose time is over, and the write that states them without it.

Reads raise ``STATE_UNAVAILABLE``. The write runs in the transaction of the new end's log entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, delete, select, update

from broker import wire
from broker.models import AgencyAnswer, Replaced, SearchRecord, SearchState
from broker.retention import under_hold
from broker.storing import Storage, Write, microseconds_of
from broker.tables import candidate_links, searches
from trust.clock import to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason


@dataclass(frozen=True, slots=True)
class ExpiringStore(Storage):
    """Reads and writes what expires of ended searches."""

    async def due(self, now: datetime, most: int) -> tuple[tuple[str, str], ...]:
        """Return force and id of the searches that are to be looked at, the longest due first.

        Those under legal hold are not among them.
        """
        query = (
            select(searches.c.force, searches.c.search_id)
            .where(
                searches.c.expire_us <= to_us(now),
                searches.c.state != SearchState.RUNNING.value,
                ~under_hold(),
            )
            .order_by(searches.c.expire_us)
            .limit(most)
        )
        return tuple((row.force, row.search_id) for row in await self.rows(query))

    async def looked_at(self, record: SearchRecord, again: datetime | None) -> None:
        """Keep when a search is next looked at of which nothing is gone yet, if its end stands."""
        mine = and_(
            searches.c.search_id == record.search_id,
            searches.c.result_index == record.result_leaf_index,
        )
        later = update(searches).where(mine).values(expire_us=microseconds_of(again))
        await self.run(lambda connection: connection.execute(later))

    def expired(
        self,
        search_id: str,
        answers: Sequence[AgencyAnswer],
        result: Envelope,
        again: datetime | None,
        replaces: Replaced,
    ) -> Write:
        """Return the write that states an ended search anew, without what some agencies found.

        Link tokens of those agencies go with it. When all of the search goes stays as it was.

        Args:
            search_id: the search.
            answers: one for each agency, as they are to be kept.
            result: the signed result without what is gone.
            again: when the next answer of the search is to go, if any has to.
            replaces: the end that this one replaces. The write raises ``STATE_UNAVAILABLE`` if that
                is not the search's end as it stands, and ``LEGAL_HOLD`` if the search is under it.
        """
        ended = wire.encode_ended(answers, result)
        gone = [one.outcome.agency for one in answers if one.outcome.erased_at is not None]
        mine = searches.c.search_id == search_id
        stated = update(searches).where(mine, searches.c.result_index == replaces.leaf_index)
        its_links = candidate_links.c.search_id == search_id

        def write(connection: Connection, index: int) -> None:
            held = select(searches.c.search_id).where(mine, under_hold())
            if connection.execute(held).first() is not None:
                raise ProbegateError(Reason.LEGAL_HOLD)
            values = {
                "ended": ended,
                "result_index": index,
                "expire_us": microseconds_of(again),
            }
            if connection.execute(stated.values(values)).rowcount != 1:
                raise ProbegateError(Reason.STATE_UNAVAILABLE, "the search has ended otherwise")
            connection.execute(
                delete(candidate_links).where(its_links, candidate_links.c.agency.in_(gone))
            )

        return write
