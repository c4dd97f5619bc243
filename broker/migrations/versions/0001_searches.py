"""The searches table.

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
    """Create the table."""
    op.create_table(
        "searches",
        sa.Column("search_id", sa.String(36), primary_key=True),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("order_index", sa.BigInteger, nullable=False),
        sa.Column("order_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("order_envelope", sa.LargeBinary, nullable=False),
        sa.Column("decisions", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("ended", sa.LargeBinary),
        sa.Column("result_index", sa.BigInteger),
        sa.UniqueConstraint("force", "request_id", name="uq_searches_request"),
    )
    op.create_index("ix_searches_listing", "searches", ["force", "created_us", "search_id"])
    op.create_index("ix_searches_state", "searches", ["state"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("searches")
