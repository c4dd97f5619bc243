"""The broker's tables and how its database is opened.

They share a database with the log, so that a search and its log entry commit together: neither can
exist without the other (promises 1 and 8). What is kept of a probe is its sealed form, and only
until the search ends (promise 2).
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
    Engine,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.exc import SQLAlchemyError

from trust.errors import ProbegateError, Reason

DATABASE_FILE: Final = "broker.db"
LOCK_TIMEOUT_S: Final = 30
"""How long one writer waits for another of the same SQLite file, seconds."""
MIGRATIONS: Final = Path(__file__).parent / "migrations"

metadata = MetaData()

searches = Table(
    "searches",
    metadata,
    Column("search_id", String(36), primary_key=True),
    Column("force", String(64), nullable=False),
    Column("request_id", String(36), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("order_index", BigInteger, nullable=False),
    Column("order_sha256", LargeBinary(32), nullable=False),
    Column("order_envelope", LargeBinary, nullable=False),
    Column("decisions", LargeBinary, nullable=False),
    Column("sealed", LargeBinary),
    Column("ended", LargeBinary),
    Column("result_index", BigInteger),
    UniqueConstraint("force", "request_id", name="uq_searches_request"),
    Index("ix_searches_listing", "force", "created_us", "search_id"),
    Index("ix_searches_state", "state"),
)
"""One row a search. ``decisions`` and ``ended`` are stored messages (``broker.wire``); ``sealed``
is what a restart needs to go on asking and is emptied when the search ends."""


def open_engine(state_dir: Path, url: str = "") -> Engine:
    """Open the broker's database and bring its tables up to date.

    Args:
        state_dir: where the SQLite file lies if no URL is given.
        url: an SQLAlchemy URL, such as one for PostgreSQL.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(url or f"sqlite:///{state_dir / DATABASE_FILE}")
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _durable)
        upgrade(engine)
    except (SQLAlchemyError, OSError) as error:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, type(error).__name__) from error
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
