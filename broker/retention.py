"""What an ended search found is kept for its time, and then it is gone.

1. What an agency found is kept as long as its own agreement gives its recipients
   (``retention_days``), counted from the end of the search, or from when the answer came if that
   was later; never longer than a setting of ours. However short it is, what was found can be read
   for a while: otherwise it would be no answer. Then the search is stated anew without it
   (``broker.expiring``).
2. All that is left of a search goes when the longest of those times of its permitted agencies is
   over, counted from the last answer that came, or that setting where no agency was permitted: the
   signed order, the answers and the signed result. Not while an answer is still asked for, though:
   it would come to nothing. What stays says only that there was a search, and what was decided:
   ids, digests, times; and an urgent search's confirmation, which goes with the values
   (``broker.erasing``).
3. What is under legal hold stays until the hold is lifted: the values beside the search's entries
   are what is held (``audit.erasing``).
4. That it was erased, and of which searches, is an entry of the admin log that commits with the
   erasure. The search's own entries stay and verify.
5. Their bytes are gone from SQLite's files when that is done. PostgreSQL reuses their pages at its
   own vacuum; ``probegate audit erase`` rewrites the table for whoever cannot wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, Exists, Select, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from audit.organisation import SEARCH, admin_leaf
from audit.scrubbing import Scrubber
from audit.tables import storage_failure, values
from audit.writer import LogWriter, NewEntry
from broker.models import AgencyAnswer, AgencyDecision, SearchState
from broker.settings import BrokerSettings
from broker.tables import candidate_links, held_answers, searches
from trust import telemetry
from trust.clock import Clock, to_us
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState

RESULTS_ERASED: Final = "results.erased"
"""The entry that says so."""
SEARCHES_MAX: Final = 500
"""Searches named in one entry of the admin log, which keeps it well below its size limit."""
LEAST: Final = timedelta(hours=1)
"""How long what was found can be read, whatever an agreement says (1)."""


@dataclass(frozen=True, slots=True)
class ResultRetention:
    """Says how long what searches found is kept, and erases the searches whose time is over.

    Attributes:
        settings: the longest time.
        engine: the broker's database.
        admin: the admin log.
        files: sees to the database's files once something was erased.
        clock: the time.
    """

    settings: BrokerSettings
    engine: Engine
    admin: LogWriter
    files: Scrubber
    clock: Clock

    def until(self, decisions: Iterable[AgencyDecision], ended_at: datetime) -> datetime:
        """Return when a search is to be erased that ended so, or whose last answer came so (2)."""
        days = [one.obligations.retention_days for one in decisions if one.obligations is not None]
        return ended_at + self._kept(max(days, default=self.settings.results_retain_days))

    def answers_until(
        self,
        decisions: Iterable[AgencyDecision],
        answers: Iterable[AgencyAnswer],
        ended_at: datetime,
    ) -> Iterator[tuple[str, datetime]]:
        """Yield each agency that found something still kept, and until when that may be (1).

        Args:
            decisions: what was decided for each agency of the order.
            answers: what came.
            ended_at: when the search first ended.
        """
        duties = {one.agency: one.obligations for one in decisions}
        for answer in answers:
            outcome = answer.outcome
            its = duties.get(outcome.agency)
            if is_kept(answer) and its is not None:
                yield (
                    outcome.agency,
                    (outcome.late_at or ended_at) + self._kept(its.retention_days),
                )

    def _kept(self, days: int) -> timedelta:
        return max(timedelta(days=min(days, self.settings.results_retain_days)), LEAST)

    async def erase(self) -> None:
        """Erase once the searches that are due (2) (3) (4) (5).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``, ``LOG_UNAVAILABLE`` or ``DISK_FULL``;
                ``LEGAL_HOLD`` if something was put under it meanwhile, or came: next time, then.
        """
        erased, now = 0, self.clock()
        while found := await asyncio.to_thread(self._due, now):
            leaf = admin_leaf(RESULTS_ERASED, now, count=len(found), searches=list(found))
            self.files.erased()
            await self.admin.append(NewEntry(leaf=leaf, also=_erasing(found, now)))
            erased += len(found)
        await self.files.scrub()
        if erased:
            telemetry.log("results erased", count=erased)

    def _due(self, now: datetime) -> tuple[str, ...]:
        query = _query(now).order_by(searches.c.erase_us).limit(SEARCHES_MAX)
        try:
            with self.engine.connect() as connection:
                return tuple(connection.execute(query).scalars())
        except SQLAlchemyError as error:
            raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error


def is_kept(answer: AgencyAnswer) -> bool:
    """Whether an answer lists what its agency found, and that was not erased."""
    return answer.report is not None and answer.outcome.state is OutcomeState.CANDIDATES


def under_hold() -> Exists:
    """Return the condition that a search is under legal hold (3)."""
    held = select(values.c.idx).where(
        values.c.log == SEARCH, values.c.idx == searches.c.order_index, values.c.legal_hold
    )
    return held.exists()


def _query(now: datetime) -> Select[Any]:
    """Return the query for the ids of searches whose time is over and that nothing keeps."""
    waits = select(held_answers.c.agency).where(held_answers.c.search_id == searches.c.search_id)
    return select(searches.c.search_id).where(
        searches.c.erase_us <= to_us(now),
        searches.c.state != SearchState.RUNNING.value,
        ~waits.exists(),  # (2)
        ~under_hold(),  # (3)
    )


def _erasing(found: Sequence[str], now: datetime) -> Callable[[Connection, int], None]:
    """Return the write that erases what an entry names, all of it or nothing (4)."""

    def write(connection: Connection, _index: int) -> None:
        mine = searches.c.search_id.in_(found)
        if len(connection.execute(_query(now).where(mine)).all()) != len(found):
            raise ProbegateError(Reason.LEGAL_HOLD)
        gone = {"order_envelope": b"", "ended": None, "erase_us": None, "expire_us": None}
        connection.execute(update(searches).where(mine).values(gone))  # (2)
        links = candidate_links.c.search_id.in_(found)
        connection.execute(delete(candidate_links).where(links))

    return write
