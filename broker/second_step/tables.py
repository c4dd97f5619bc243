"""The tables of what follows a search; they are part of the broker's database.

Everything is written with the log entry that says it. What is under way has the instant at which
it is next worked on (``next_us``), null where nothing is left to do.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from broker.tables import metadata

reviews = Table(
    "reviews",
    metadata,
    Column("search_id", String(36), primary_key=True),
    Column("agency", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("review_id", String(36), nullable=False),
    Column("force", String(64), nullable=False),
    Column("person", String(128), nullable=False),
    Column("finished_us", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("token", Text, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    UniqueConstraint("search_id", "agency", "person", name="uq_reviews_person"),
    UniqueConstraint("search_id", "agency", "review_id", name="uq_reviews_review"),
    Index("ix_reviews_person", "force", "person"),
)
"""One row for each agency of a sitting; sittings of a search are numbered from 1, so that two that
come at once cannot both be the last that was needed."""

review_settlements = Table(
    "review_settlements",
    metadata,
    Column("search_id", String(36), primary_key=True),
    Column("standing_sha256", LargeBinary(32), primary_key=True),
    Column("leaf_index", BigInteger, nullable=False),
)
"""Which standing of a search's reviews is on the log as settled."""

reviewer_revocations = Table(
    "reviewer_revocations",
    metadata,
    Column("force", String(64), primary_key=True),
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("person", String(128), nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("reviews", Integer, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Index("ix_reviewer_revocations_person", "force", "person"),
)

disclosures = Table(
    "disclosures",
    metadata,
    Column("force", String(64), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("search_id", String(36), nullable=False),
    Column("agency", String(64), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("sealed_key_id", String(128), nullable=False),
    Column("sealed_facts", LargeBinary, nullable=False),
    Column("token", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("decide_by_us", BigInteger),
    Column("decision", LargeBinary),
    Column("sealed", LargeBinary),
    Column("expires_us", BigInteger),
    Column("decision_index", BigInteger),
    Column("delivered_us", BigInteger),
    Column("withheld", String(64), nullable=False, server_default=""),
    Column("asked", Integer, nullable=False),
    Column("next_us", BigInteger),
    Column("until_us", BigInteger, nullable=False),
    Index("ix_disclosures_listing", "force", "created_us", "request_id"),
    Index("ix_disclosures_next", "next_us"),
    Index("ix_disclosures_expires", "expires_us"),
)
"""One row for each request for disclosure. ``sealed_facts`` and ``token`` are emptied once nothing
may come of it any more, ``sealed`` once the details are past their end. ``withheld`` is the reason
that the force was told last for not getting what was released, until it gets it."""

force_statements = Table(
    "force_statements",
    metadata,
    Column("force", String(64), primary_key=True),
    Column("kind", String(96), primary_key=True),
    Column("statement_id", String(36), primary_key=True),
    Column("search_id", String(36), nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
)
"""Corroborations and reports of wrong matches; the kind is the payload's type."""

recalls = Table(
    "recalls",
    metadata,
    Column("agency", String(64), primary_key=True),
    Column("recall_id", String(36), primary_key=True),
    Column("force", String(64), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("search_id", String(36), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("acknowledged_us", BigInteger),
    Column("acknowledgement_sha256", LargeBinary(32)),
    Column("acknowledgement_index", BigInteger),
    UniqueConstraint("force", "number", name="uq_recalls_number"),
    Index("ix_recalls_candidate", "search_id", "agency", "reference"),
)
"""One row for each recall, numbered for the force it concerns."""

recall_cursors = Table(
    "recall_cursors",
    metadata,
    Column("agency", String(64), primary_key=True),
    Column("after", BigInteger, nullable=False),
)
"""The number of the last recall that each agency was heard on."""

notices = Table(
    "notices",
    metadata,
    Column("agency", String(64), primary_key=True),
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("next_us", BigInteger),
    Column("until_us", BigInteger, nullable=False),
    Column("outcome", String(64), nullable=False),
    Index("ix_notices_next", "next_us"),
)
"""What agencies are to be told; ``outcome`` is how that ended."""
