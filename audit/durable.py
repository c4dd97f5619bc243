"""SQLite opened so that a commit that has returned is on the disk, and what is erased is gone.

On PostgreSQL nothing is done here: there the writer sets what it needs for its own session
(``audit.tables.connect``).
"""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy import Engine, create_engine, event

LOCK_TIMEOUT_S: Final = 30
"""How long one writer waits for another of the same SQLite file, seconds."""
_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    # Erased rows leave no bytes behind.
    "secure_delete = ON",
    f"busy_timeout = {LOCK_TIMEOUT_S * 1000}",
)


def durable_engine(url: str) -> Engine:
    """Return an engine each of whose SQLite connections keeps its commits."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _keep)
    return engine


def _keep(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
