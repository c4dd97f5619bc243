"""What an adapter's answers found is kept for its time, and then it is gone.

1. The time is the one that its recipients may keep it for, and a margin (``lifetimes``). All
   answers of one search go together.
2. What is under way keeps it: a request for disclosure that is not decided, but no longer than a
   setting of ours; and details that were released, until the margin after they must be deleted,
   however long that is. A decision can be asked for as long as the margin, too.
3. A recall must reach everybody who may still hold something, so nothing that one needs goes
   before. One that was ordered is signed first, and then stays for the margin at least: a broker
   that is up has heard it by then.
4. What is under legal hold stays until the hold is lifted (``holds``).
5. Then what was found goes, and what followed it. What stays says only that there was an answer
   (``gone``).
6. That it was erased, and of which searches, is an entry of the admin log that commits with the
   erasure. The searches' own entries stay and verify.
   A certificate of an erasure that nobody was handed is not kept for good either (``erasures``).
7. Their bytes are gone from SQLite's files when that is done. A process cannot know what another
   left behind that ended in between, so the first turn after a start sees to the files as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, and_, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from agency_adapters.erasures import forget_old
from agency_adapters.gone import erase_answers
from agency_adapters.holds import is_held
from agency_adapters.lifetimes import UNDATED, KeptFor, date_earlier
from agency_adapters.tables import matches, recalls, releases
from audit.organisation import admin_leaf
from audit.scrubbing import Scrubber
from audit.tables import storage_failure
from audit.writer import LogWriter, NewEntry
from trust import telemetry
from trust.clock import Clock, to_us
from trust.errors import ProbegateError, Reason

ANSWERS_ERASED: Final = "answers.erased"
"""The entry that says so."""
SEARCHES_MAX: Final = 500
"""Searches named in one entry of the admin log, which keeps it well below its size limit."""


@dataclass(frozen=True, slots=True)
class AnswerRetention:
    """Erases what answers found when its time is over; the running adapter has one.

    Attributes:
        kept: says until when.
        engine: the adapter's database.
        admin: the admin log.
        files: sees to the database's files once something was erased.
        clock: the time.
    """

    kept: KeptFor
    engine: Engine
    admin: LogWriter
    files: Scrubber
    clock: Clock

    async def erase_answers(self) -> None:
        """Erase once what is due.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``, ``LOG_UNAVAILABLE`` or ``DISK_FULL``;
                ``LEGAL_HOLD`` if something was put under it meanwhile, or came: next time, then.
        """
        erased, now = 0, self.clock()
        await asyncio.to_thread(date_earlier, self.engine, self.kept)
        while found := await asyncio.to_thread(self._due, now):
            leaf = admin_leaf(ANSWERS_ERASED, now, count=len(found), searches=list(found))
            self.files.erased()
            await self.admin.append(NewEntry(leaf=leaf, also=_erasing(found, now, self.kept)))
            erased += len(found)
        if await asyncio.to_thread(forget_old, self.engine, now):  # (6)
            self.files.erased()
        await self.files.scrub()  # (7)
        if erased:
            telemetry.log("answers erased", count=erased)

    def _due(self, now: datetime) -> tuple[str, ...]:
        soonest = func.min(matches.c.erase_us)
        query = _query(now, self.kept).order_by(soonest).limit(SEARCHES_MAX)
        try:
            with self.engine.connect() as connection:
                return tuple(connection.execute(query).scalars())
        except SQLAlchemyError as error:
            raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error


def _query(now: datetime, kept: KeptFor) -> Select[Any]:
    """Return the query for the ids of searches whose time is over and that nothing keeps."""
    this, at, fair = matches.c.search_id, to_us(now), to_us(now - kept.margin)
    other = matches.alias("other")
    undecided = select(releases.c.search_id).where(
        releases.c.search_id == other.c.search_id, releases.c.leaf_index.is_(None)
    )
    still = select(other.c.leaf_index).where(  # (1) (2)
        other.c.search_id == this,
        or_(
            other.c.erase_us == UNDATED,
            other.c.erase_us > at,
            and_(other.c.latest_us > at, undecided.exists()),
        ),
    )
    disclosed = select(releases.c.leaf_index).where(  # (2)
        releases.c.search_id == this, releases.c.until_us > fair
    )
    recalled = select(recalls.c.recall_id).where(  # (3)
        recalls.c.search_id == this,
        or_(
            recalls.c.recall.is_(None),
            func.coalesce(recalls.c.issued_us, recalls.c.ordered_us) > fair,
        ),
    )
    return (
        select(this)
        .where(
            matches.c.erase_us > UNDATED,
            matches.c.erase_us <= at,
            ~still.exists(),
            ~disclosed.exists(),
            ~recalled.exists(),
            ~is_held(this),  # (4)
        )
        .group_by(this)
    )


def _erasing(
    found: Sequence[str], now: datetime, kept: KeptFor
) -> Callable[[Connection, int], None]:
    """Return the write that erases what an entry names, all of it or nothing (6)."""

    def write(connection: Connection, _index: int) -> None:
        mine = _query(now, kept).where(matches.c.search_id.in_(found))
        if len(connection.execute(mine).all()) != len(found):
            raise ProbegateError(Reason.LEGAL_HOLD)
        erase_answers(connection, found)  # (5)

    return write
