"""Answers that did not come in time are asked for beside those that are held.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what an answer that did not come was asked under."""
    op.add_column("held_answers", sa.Column("grant_sha256", sa.LargeBinary(32)))


def downgrade() -> None:
    """Ask for no such answer."""
    op.execute("DELETE FROM held_answers WHERE grant_sha256 IS NOT NULL")
    op.drop_column("held_answers", "grant_sha256")
