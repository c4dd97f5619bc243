"""What each agency found is kept for its own time, beside that of the whole search.

Revision ID: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when a search is next looked at; those that have ended are looked at once, now."""
    op.add_column("searches", sa.Column("expire_us", sa.BigInteger))
    op.create_index("ix_searches_expire", "searches", ["expire_us"])
    op.execute("UPDATE searches SET expire_us = 0 WHERE ended IS NOT NULL")


def downgrade() -> None:
    """Keep what every agency found for as long as the search."""
    op.drop_index("ix_searches_expire", "searches")
    op.drop_column("searches", "expire_us")
