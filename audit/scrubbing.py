"""Removing the bytes of what was erased from a database's own files.

1. SQLite overwrites pages as rows go (``secure_delete``), but its write-ahead log has older ones:
   it is emptied by a checkpoint. PostgreSQL keeps dead rows: the tables are rewritten.
2. Both wait for whoever reads, and keep writers out meanwhile. So each attempt waits for an instant
   only, and there are many of them: the log must never wait for somebody's long read.
3. What cannot be made to go from here is named. What could not be made to go because somebody
   reads is tried again (``Scrubber``), until it is gone.
4. A server that erases by itself, whenever something's time is over, leaves PostgreSQL's dead rows
   to its own vacuum: rewriting tables so often would keep every search waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from audit.tables import is_busy, is_postgres, storage_failure, values
from trust.errors import Reason

PATIENCE_S: Final = 15.0
"""How long it is tried until nobody reads, seconds."""
TURN_S: Final = 1.0
"""How long a server tries it at one of its turns, seconds."""
WAIT_MS: Final = 50
"""How long one attempt waits for readers, with writers waiting behind it, milliseconds (2)."""
_PAUSE_S: Final = 0.25
REMAINS_WAL_BUSY: Final = (
    "the write-ahead log: somebody reads the database; it is emptied at the next checkpoint"
)
REMAINS_TABLE_BUSY: Final = "dead rows of a table that somebody reads, until it is rewritten"
REMAINS_POSTGRES: Final = (
    "PostgreSQL's write-ahead segments until they are reused, archives, replicas and backups"
)
REMAINS_SQLITE: Final = "backups and snapshots of the disk, if you make any"


@dataclass(slots=True)
class Scrubber:
    """Sees to a database's files once something was erased, until its bytes are gone (3).

    Attributes:
        engine: the organisation's database.
    """

    engine: Engine
    _clean: bool = field(default=False, init=False)
    """Not at first: whoever was here before may have been killed between the two."""

    def erased(self) -> None:
        """Take note that something is erased."""
        self._clean = False

    async def scrub(self) -> None:
        """Remove what was erased since the files were clean, or try to (3) (4).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
        """
        if self._clean or is_postgres(self.engine):
            return
        self._clean, clean = True, False  # first: what is erased meanwhile is seen to next time
        try:
            remains = await asyncio.to_thread(scrub, self.engine, patience_s=TURN_S)
            clean = REMAINS_WAL_BUSY not in remains
        finally:
            self._clean &= clean


def scrub(
    engine: Engine, tables: Sequence[str] = (values.name,), *, patience_s: float = PATIENCE_S
) -> tuple[str, ...]:
    """Remove erased bytes from the database's files; return what remains elsewhere.

    Args:
        engine: the organisation's database.
        tables: names of ours, in which something was erased.
        patience_s: how long it is tried while somebody reads, seconds.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    until = time.monotonic() + patience_s
    try:
        if is_postgres(engine):
            return _scrub_postgres(engine, tables, until)
        while not _emptied(engine):
            if time.monotonic() > until:
                return (REMAINS_WAL_BUSY, REMAINS_SQLITE)
            time.sleep(_PAUSE_S)
    except SQLAlchemyError as error:
        raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error
    return (REMAINS_SQLITE,)


def _scrub_postgres(engine: Engine, tables: Sequence[str], until: float) -> tuple[str, ...]:
    remains = [REMAINS_POSTGRES]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"SET lock_timeout = {WAIT_MS}"))
        for table in tables:
            while not _rewritten(connection, table):
                if time.monotonic() > until:
                    remains.insert(0, REMAINS_TABLE_BUSY)
                    break
                time.sleep(_PAUSE_S)
        connection.execute(text("RESET lock_timeout"))
        connection.execute(text("CHECKPOINT"))
    return tuple(dict.fromkeys(remains))


def _emptied(engine: Engine) -> bool:
    """Empty SQLite's write-ahead log, unless somebody reads (2)."""
    with engine.connect() as connection:
        waited = connection.execute(text("PRAGMA busy_timeout")).scalar_one()
        connection.execute(text(f"PRAGMA busy_timeout = {WAIT_MS}"))
        try:
            busy = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).first()
        finally:
            connection.execute(text(f"PRAGMA busy_timeout = {waited}"))
    return busy is None or not busy[0]


def _rewritten(connection: Connection, table: str) -> bool:
    """Rewrite one of PostgreSQL's tables, unless somebody uses it (2)."""
    try:
        connection.execute(text(f'VACUUM (FULL) "{table}"'))
    except DBAPIError as error:
        if not is_busy(error):
            raise
        return False
    return True
