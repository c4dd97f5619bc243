"""Answers that wait for a person at the agency, and what its reviewers decided.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "held",
        sa.Column("order_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("grant_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("search_id", sa.String(36), nullable=False),
        sa.Column("broker", sa.String(64), nullable=False),
        sa.Column("held_us", sa.BigInteger, nullable=False),
        sa.Column("decide_by_us", sa.BigInteger, nullable=False),
        sa.Column("needed", sa.Integer, nullable=False),
        sa.Column("ask", sa.String, nullable=False),
        sa.Column("switches", sa.String, nullable=False),
        sa.Column("order_payload", sa.LargeBinary),
        sa.Column("withheld", sa.LargeBinary),
        sa.Column("flagged", sa.Boolean, nullable=False),
        sa.Column("report", sa.LargeBinary),
        sa.Column("statement", sa.LargeBinary),
        sa.Column("leaf_index", sa.BigInteger),
    )
    op.create_index("ix_held_leaf", "held", ["leaf_index", "held_us"])
    op.create_table(
        "held_reviews",
        sa.Column("order_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("reviewer", sa.String(128), primary_key=True),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("held_reviews", "held"):
        op.drop_table(table)
