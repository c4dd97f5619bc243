"""Which force an owner's decision is for, and which order it was used for.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = (("force", sa.String(64)), ("order_sha256", sa.LargeBinary(32)))


def upgrade() -> None:
    """Add both; what was decided before is for any force, and was used for no order yet."""
    for column, kind in _COLUMNS:
        op.add_column("owner_decisions", sa.Column(column, kind))


def downgrade() -> None:
    """Drop them."""
    for column, _ in _COLUMNS:
        op.drop_column("owner_decisions", column)
