"""The adapter's tables, and opening its database.

One SQLite file holds these tables, the logs' and the witness's, so that an answer, the log entry
that records it and what was acknowledged of the broker's log commit together or not at all.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.exc import SQLAlchemyError

from audit.tables import is_disk_full
from trust import files
from trust.errors import ProbegateError, Reason

DATABASE_FILE: Final = "adapter.db"
LOCK_TIMEOUT_S: Final = 30
"""How long one writer waits for another of the same file, seconds."""
MIGRATIONS: Final = Path(__file__).parent / "migrations"

metadata = MetaData()

matches = Table(
    "matches",
    metadata,
    Column("order_sha256", LargeBinary(32), primary_key=True),
    Column("grant_sha256", LargeBinary(32), nullable=False),
    Column("search_id", String(36), nullable=False),
    Column("report", LargeBinary, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
)
"""One row per order ever answered: the memory that refuses replays."""

candidates = Table(
    "candidates",
    metadata,
    Column("reference", String(64), primary_key=True),
    Column("search_id", String(36), nullable=False),
    Column("record_id", String(64), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Index("ix_candidates_search", "search_id", "rank"),
)
"""What each reference stands for; it never leaves the agency."""

owner_decisions = Table(
    "owner_decisions",
    metadata,
    Column("request_id", String(36), primary_key=True),
    Column("authority", String(32), nullable=False),
    Column("reference", String(128), nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
)
"""Decisions of the agency's own people on a request that is to come."""

admin_requests = Table(
    "admin_requests",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("leaf", Text, nullable=False),
    Column("leaf_index", BigInteger),
)
"""Entries an operator's command asks the running adapter to put on the admin log."""


def open_engine(state_dir: Path) -> Engine:
    """Open the adapter's database and bring its tables up to date.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=files.PRIVATE_FOLDER_MODE)
        engine = create_engine(f"sqlite:///{state_dir / DATABASE_FILE}")
        event.listen(engine, "connect", _durable)
        upgrade(engine)
    except (SQLAlchemyError, OSError) as error:
        reason = Reason.DISK_FULL if is_disk_full(error) else Reason.STATE_UNAVAILABLE
        raise ProbegateError(reason, type(error).__name__) from error
    return engine


def upgrade(engine: Engine) -> None:
    """Run the migrations that this database has not seen."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _durable(connection: sqlite3.Connection, _record: object) -> None:
    """Make every commit reach the disk before it returns, and erased rows leave no bytes behind."""
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        f"busy_timeout = {LOCK_TIMEOUT_S * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")
