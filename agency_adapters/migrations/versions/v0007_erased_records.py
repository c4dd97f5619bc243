"""Erasures that were begun; which candidates' records were erased since; what records are known by.

Revision ID: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("candidates", "erased_us", sa.BigInteger),
    ("candidates", "identity", sa.LargeBinary(32)),
    ("releases", "shown", sa.String),
)


def upgrade() -> None:
    """Add columns and table; nothing that is there is marked, or known to have been shown."""
    for table, column, kind in _COLUMNS:
        op.add_column(table, sa.Column(column, kind))
    op.create_table(
        "erasures",
        sa.Column("key", sa.LargeBinary(32), primary_key=True),
        sa.Column("begun_us", sa.BigInteger, nullable=False),
        sa.Column("erased", sa.String, nullable=False),
        sa.Column("images", sa.String, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("certificate", sa.LargeBinary),
        sa.Column("certified_us", sa.BigInteger),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("erasures")
    for table, column, _ in _COLUMNS:
        op.drop_column(table, column)
