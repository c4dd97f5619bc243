"""Answers that agencies hold for a person, and when they are next asked for.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "held_answers",
        sa.Column("search_id", sa.String(36), primary_key=True),
        sa.Column("agency", sa.String(64), primary_key=True),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("held_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("next_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_held_answers_next", "held_answers", ["next_us"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("held_answers")
