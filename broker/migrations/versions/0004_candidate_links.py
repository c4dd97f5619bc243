"""Link tokens of searches that wait for a held answer.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "candidate_links",
        sa.Column("search_id", sa.String(36), primary_key=True),
        sa.Column("agency", sa.String(64), primary_key=True),
        sa.Column("links", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("candidate_links")
