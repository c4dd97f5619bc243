"""The broker's tables and how its database is opened.

They share a database with the log, so that a search and its log entry commit together: neither can
exist without the other (promises 1 and 8). What is kept of a probe is its sealed form, and only
until the search ends (promise 2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from audit.database import open_database

DATABASE_FILE: Final = "broker.db"
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
    Column("erase_us", BigInteger),
    Column("expire_us", BigInteger),
    UniqueConstraint("force", "request_id", name="uq_searches_request"),
    Index("ix_searches_listing", "force", "created_us", "search_id"),
    Index("ix_searches_state", "state"),
    Index("ix_searches_erase", "erase_us"),
    Index("ix_searches_expire", "expire_us"),
)
"""One row a search. ``decisions`` and ``ended`` are stored messages (``broker.wire``); ``sealed``
is what a restart needs to go on asking and is emptied when the search ends. An ended search without
``ended`` was erased when its time was over, which ``erase_us`` says until then; ``expire_us`` says
when it is next looked at for what one agency found and whose time is over sooner."""


confirmations = Table(
    "confirmations",
    metadata,
    Column("search_id", String(36), primary_key=True),
    Column("leaf_index", BigInteger, nullable=False),
    Column("confirmed_us", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
"""One row per urgent search that was confirmed in writing, with what the force signed."""

held_answers = Table(
    "held_answers",
    metadata,
    Column("search_id", String(36), primary_key=True),
    Column("agency", String(64), primary_key=True),
    Column("force", String(64), nullable=False),
    Column("held_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("grant_sha256", LargeBinary(32)),
    Index("ix_held_answers_next", "next_us"),
)
"""One row per answer that is still asked for: how often it was, when it is next, and until when.
An agency holds it for a person; or none came, and ``grant_sha256`` is what it was asked under."""

candidate_links = Table(
    "candidate_links",
    metadata,
    Column("search_id", String(36), primary_key=True),
    Column("agency", String(64), primary_key=True),
    Column("links", LargeBinary, nullable=False),
)
"""Link tokens of searches with an answer that is still asked for, for the groups to be made again
when it comes. Only groups are ever sent on; without the agencies' key the tokens say nothing."""


def open_engine(state_dir: Path, url: str = "") -> Engine:
    """Open the broker's database and bring its tables up to date.

    Args:
        state_dir: where the SQLite file lies if no URL is given.
        url: an SQLAlchemy URL, such as one for PostgreSQL.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    return open_database(state_dir, DATABASE_FILE, MIGRATIONS, url)
