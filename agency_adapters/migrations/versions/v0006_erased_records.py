"""Which candidates' records were erased since.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = (("candidates", "erased_us", sa.BigInteger),)


def upgrade() -> None:
    """Add the mark; nothing that is there is marked."""
    for table, column, kind in _COLUMNS:
        op.add_column(table, sa.Column(column, kind))


def downgrade() -> None:
    """Drop it."""
    for table, column, _ in _COLUMNS:
        op.drop_column(table, column)
