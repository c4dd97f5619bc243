"""Answers, references, owners' decisions and operators' requests.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "matches",
        sa.Column("order_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("grant_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("search_id", sa.String(36), nullable=False),
        sa.Column("report", sa.LargeBinary, nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "candidates",
        sa.Column("reference", sa.String(64), primary_key=True),
        sa.Column("search_id", sa.String(36), nullable=False),
        sa.Column("record_id", sa.String(64), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
    )
    op.create_index("ix_candidates_search", "candidates", ["search_id", "rank"])
    op.create_table(
        "owner_decisions",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("authority", sa.String(32), nullable=False),
        sa.Column("reference", sa.String(128), nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "admin_requests",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("leaf", sa.Text, nullable=False),
        sa.Column("leaf_index", sa.BigInteger),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("admin_requests", "owner_decisions", "candidates", "matches"):
        op.drop_table(table)
