"""Until when answers are kept, what holds them, and what stays of them.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("matches", "erase_us", sa.BigInteger),
    ("matches", "latest_us", sa.BigInteger),
    ("held", "retention_days", sa.Integer),
    ("releases", "search_id", sa.String(36)),
    ("releases", "until_us", sa.BigInteger),
    ("recalls", "issued_us", sa.BigInteger),
    ("recalls", "ordered_index", sa.BigInteger),
)
_INDEXES = (
    ("ix_matches_erase", "matches", "erase_us"),
    ("ix_matches_search", "matches", "search_id"),
    ("ix_held_search", "held", "search_id"),
    ("ix_releases_search", "releases", "search_id"),
    ("ix_recalls_search", "recalls", "search_id"),
)


def upgrade() -> None:
    """Add what says until when; answers there are get their time when they are first looked at."""
    for table, column, kind in _COLUMNS:
        op.add_column(table, sa.Column(column, kind))
    for name, table, column in _INDEXES:
        op.create_index(name, table, [column])
    op.execute("UPDATE matches SET erase_us = 0")
    op.create_table(
        "gone_requests",
        sa.Column("request_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("broker", sa.String(64), nullable=False),
    )
    op.create_table(
        "answer_holds",
        sa.Column("leaf_index", sa.BigInteger, primary_key=True, autoincrement=False),
    )


def downgrade() -> None:
    """Drop it."""
    for table in ("answer_holds", "gone_requests"):
        op.drop_table(table)
    for name, table, _ in _INDEXES:
        op.drop_index(name, table)
    for table, column, _ in _COLUMNS:
        op.drop_column(table, column)
