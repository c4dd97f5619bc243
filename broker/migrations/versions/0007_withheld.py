"""Why released details were withheld from a force.

Revision ID: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; nothing was told of so far."""
    withheld = sa.Column("withheld", sa.String(64), nullable=False, server_default="")
    op.add_column("disclosures", withheld)


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("disclosures", "withheld")
