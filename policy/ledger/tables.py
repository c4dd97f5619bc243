"""The ledger's tables (``policy.ledger``); people, cases and texts are keyed digests in all."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata: Final = MetaData()

keys: Final = Table(
    "ledger_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", LargeBinary(32), nullable=False),
)
"""One row: the key of every digest here."""

uses: Final = Table(
    "ledger_uses",
    metadata,
    Column("ref", String(64), primary_key=True),
    Column("force", String(63), nullable=False),
    Column("officer", LargeBinary(16), nullable=False),
    Column("case_key", LargeBinary(16), nullable=False),
    Column("matter", LargeBinary(16), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("agencies", Text, nullable=False),
    Column("answered", Text, nullable=False),
    Column("answered_us", BigInteger),
    Index("ix_ledger_uses_force", "force", "at_us"),
    Index("ix_ledger_uses_officer", "officer", "at_us"),
    Index("ix_ledger_uses_case", "case_key", "at_us"),
    Index("ix_ledger_uses_matter", "matter", "answered_us"),
)
"""One row per search: where it was permitted, and which agencies answered (ids, with commas)."""

reason_uses: Final = Table(
    "ledger_reasons",
    metadata,
    Column("text_key", LargeBinary(16), primary_key=True),
    Column("case_key", LargeBinary(16), primary_key=True),
    Column("last_us", BigInteger, nullable=False),
)
"""One row per text and case it was used in."""

urgent_searches: Final = Table(
    "ledger_urgent",
    metadata,
    Column("ref", String(64), primary_key=True),
    Column("agency", String(63), primary_key=True),
    Column("force", String(63), nullable=False),
    Column("officer", LargeBinary(16), nullable=False),
    Column("deadline_us", BigInteger, nullable=False),
    Column("confirmer_rank", String(64), nullable=False),
    Column("confirmed_us", BigInteger),
    Column("flagged", Boolean, nullable=False),
    Index("ix_ledger_urgent_officer", "officer", "deadline_us"),
)
"""One row per permit that needed an urgent route."""

switches: Final = Table(
    "ledger_switches",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("leaf_index", BigInteger, nullable=False),
)
"""One row per kill switch that is off."""
