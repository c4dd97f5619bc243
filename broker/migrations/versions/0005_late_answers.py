"""Answers that did not come in time are asked for beside those that are held; results have an end.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


YEAR_US = 365 * 86_400 * 1_000_000
"""How long what had ended before is kept: agreements could say less, and nobody wrote it down."""


def upgrade() -> None:
    """Add what an answer that did not come was asked under, and when a result is to be erased."""
    op.add_column("held_answers", sa.Column("grant_sha256", sa.LargeBinary(32)))
    op.add_column("searches", sa.Column("erase_us", sa.BigInteger))
    op.create_index("ix_searches_erase", "searches", ["erase_us"])
    op.execute(
        f"UPDATE searches SET erase_us = created_us + {YEAR_US} WHERE ended IS NOT NULL"  # noqa: S608
    )


def downgrade() -> None:
    """Ask for no such answer, and keep results for ever."""
    op.drop_index("ix_searches_erase", "searches")
    op.drop_column("searches", "erase_us")
    op.execute("DELETE FROM held_answers WHERE grant_sha256 IS NOT NULL")
    op.drop_column("held_answers", "grant_sha256")
