"""The adapter's tables, and opening its database.

One SQLite file holds these tables, the logs' and the witness's, so that an answer, the log entry
that records it and what was acknowledged of the broker's log commit together or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

from audit.database import open_database

DATABASE_FILE: Final = "adapter.db"
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
    Column("erase_us", BigInteger),
    Column("latest_us", BigInteger),
    Index("ix_matches_erase", "erase_us"),
    Index("ix_matches_search", "search_id"),
)
"""One row per order ever answered: the memory that refuses replays. What an answer found goes at
``erase_us``, and if something of it is still under way then, at ``latest_us``. Both are empty once
it is gone, and so is ``report``; ``erase_us`` is 0 where no time was said yet (``lifetimes``)."""

candidates = Table(
    "candidates",
    metadata,
    Column("reference", String(64), primary_key=True),
    Column("search_id", String(36), nullable=False),
    Column("record_id", String(64), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Column("erased_us", BigInteger),
    Column("identity", LargeBinary(32)),
    Index("ix_candidates_search", "search_id", "rank"),
)
"""What each reference stands for; it never leaves the agency. ``erased_us`` is since when its
record is being erased, or was (``erased``); ``identity`` is what it is recognised by
(``identities``)."""

candidate_links = Table(
    "candidate_links",
    metadata,
    Column("report_sha256", LargeBinary(32), primary_key=True),
    Column("links", LargeBinary, nullable=False),
)
"""The signed link tokens that went with a report, so that a repeated request gets the same ones."""

owner_decisions = Table(
    "owner_decisions",
    metadata,
    Column("request_id", String(36), primary_key=True),
    Column("authority", String(32), nullable=False),
    Column("reference", String(128), nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("force", String(64)),
    Column("order_sha256", LargeBinary(32)),
)
"""Decisions of the agency's own people on a request that is to come: of which force, if that was
said, and the order it was used for, once it was (``owner``)."""

held = Table(
    "held",
    metadata,
    Column("order_sha256", LargeBinary(32), primary_key=True),
    Column("grant_sha256", LargeBinary(32), nullable=False),
    Column("search_id", String(36), nullable=False),
    Column("broker", String(64), nullable=False),
    Column("held_us", BigInteger, nullable=False),
    Column("decide_by_us", BigInteger, nullable=False),
    Column("needed", Integer, nullable=False),
    Column("ask", String, nullable=False),
    Column("switches", String, nullable=False),
    Column("order_payload", LargeBinary),
    Column("withheld", LargeBinary),
    Column("flagged", Boolean, nullable=False),
    Column("report", LargeBinary),
    Column("statement", LargeBinary),
    Column("leaf_index", BigInteger),
    Column("retention_days", Integer),
    Index("ix_held_leaf", "leaf_index", "held_us"),
    Index("ix_held_search", "search_id"),
)
"""One row per answer that a person must release. ``ask`` and ``switches`` are JSON lists of names;
``order_payload`` and ``withheld`` are emptied once the decision's report is there;
``retention_days`` is how long its recipients may keep that, where it was said."""

held_reviews = Table(
    "held_reviews",
    metadata,
    Column("order_sha256", LargeBinary(32), primary_key=True),
    Column("reviewer", String(128), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
)
"""What each of the agency's people decided about a held answer, and where the admin log says so."""

recipients = Table(
    "recipients",
    metadata,
    Column("order_sha256", LargeBinary(32), primary_key=True),
    Column("force", String(64), nullable=False),
    Column("origin", String(256), nullable=False),
)
"""Whose order was answered, and of which log its broker's proof was: who may ask for more."""

releases = Table(
    "releases",
    metadata,
    Column("request_sha256", LargeBinary(32), primary_key=True),
    Column("request", LargeBinary, nullable=False),
    Column("force", String(64), nullable=False),
    Column("request_id", String(36), nullable=False),
    Column("broker", String(64), nullable=False),
    Column("record_id", String(64), nullable=False),
    Column("fields", String, nullable=False),
    Column("reviewers", String),
    Column("order_payload", LargeBinary),
    Column("facts", String),
    Column("ask", String, nullable=False),
    Column("switches", String, nullable=False),
    Column("needed", Integer, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("decide_by_us", BigInteger, nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("decision", LargeBinary),
    Column("sealed", LargeBinary),
    Column("leaf_index", BigInteger),
    Column("search_id", String(36)),
    Column("until_us", BigInteger),
    Column("shown", String),
    Index("ix_releases_request", "force", "request_id", unique=True),
    Index("ix_releases_leaf", "leaf_index", "received_us"),
    Index("ix_releases_search", "search_id"),
)
"""One row per request for disclosure that the agency's people are asked to decide. ``fields``,
``ask`` and ``switches`` are JSON lists of names; ``reviewers`` says who reviewed, and when that
ended; ``shown`` is a JSON object of keyed digests of what the details said, by code. They,
``order_payload`` and ``facts`` are emptied once the decision is there. ``until_us`` is until when
the force may hold what was released; of what was refused, when that was."""

release_reviews = Table(
    "release_reviews",
    metadata,
    Column("request_sha256", LargeBinary(32), primary_key=True),
    Column("reviewer", String(128), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
)
"""What each of the agency's people decided about a request, and where the admin log says so."""

revoked_reviewers = Table(
    "revoked_reviewers",
    metadata,
    Column("revocation_sha256", LargeBinary(32), primary_key=True),
    Column("force", String(64), nullable=False),
    Column("reviewer", String(128), nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Index("ix_revoked_reviewers", "force", "reviewer"),
)
"""Reviewers whose reviews no longer count, from an instant on."""

wrong_matches = Table(
    "wrong_matches",
    metadata,
    Column("notice_sha256", LargeBinary(32), primary_key=True),
    Column("report_id", String(36), nullable=False),
    Column("force", String(64), nullable=False),
    Column("search_id", String(36), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("reasons", String, nullable=False),
    Column("reported_us", BigInteger, nullable=False),
)
"""What forces reported as a wrong match."""

recalls = Table(
    "recalls",
    metadata,
    Column("recall_id", String(36), primary_key=True),
    Column("order_sha256", LargeBinary(32), nullable=False),
    Column("search_id", String(36), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("record_id", String(64), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("notice", String, nullable=False),
    Column("ordered_us", BigInteger, nullable=False),
    Column("origin", String(256)),
    Column("number", BigInteger),
    Column("recall", LargeBinary),
    Column("issued_us", BigInteger),
    Column("ordered_index", BigInteger),
    Index("ix_recalls_number", "origin", "number"),
    Index("ix_recalls_reference", "reference"),
    Index("ix_recalls_search", "search_id"),
)
"""One row per recall that was ordered; ``recall`` is the signed one, and ``number`` its place among
those of the broker whose log ``origin`` names. Both are empty until it is on the search log.
``ordered_index`` is where the admin log has the order. Once its answer is gone ``reference``,
``record_id``, ``notice`` and ``recall`` are empty; the number stays taken."""

recall_acknowledgements = Table(
    "recall_acknowledgements",
    metadata,
    Column("notice_sha256", LargeBinary(32), primary_key=True),
    Column("recall_id", String(36), nullable=False),
    Column("force", String(64), nullable=False),
    Column("action", String, nullable=False),
    Column("acknowledged_us", BigInteger, nullable=False),
    Index("ix_recall_acknowledgements", "recall_id"),
)
"""What forces did about recalls."""

gone_requests = Table(
    "gone_requests",
    metadata,
    Column("request_sha256", LargeBinary(32), primary_key=True),
    Column("request_id", String(36), nullable=False),
    Column("broker", String(64), nullable=False),
)
"""Requests for disclosure that went with their answer, so that whoever asks is told so."""

answer_holds = Table(
    "answer_holds",
    metadata,
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
)
"""Entries of the search log whose answer is under legal hold."""

erasures = Table(
    "erasures",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("begun_us", BigInteger, nullable=False),
    Column("erased", String, nullable=False),
    Column("images", String, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("certificate", LargeBinary),
    Column("certified_us", BigInteger),
)
"""Erasures that were begun, until their certificate is handed over (``erasures``). ``erased`` and
``images`` are JSON lists of record ids and of names of files."""


def open_engine(state_dir: Path) -> Engine:
    """Open the adapter's database and bring its tables up to date.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    return open_database(state_dir, DATABASE_FILE, MIGRATIONS)
