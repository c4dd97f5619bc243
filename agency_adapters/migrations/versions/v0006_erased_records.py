"""Which candidates' records were erased since, what they and what people were shown are known by.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("candidates", "erased_us", sa.BigInteger),
    ("candidates", "identity", sa.LargeBinary(32)),
    ("releases", "shown", sa.String),
)


def upgrade() -> None:
    """Add the columns; nothing that is there is marked, or known to have been shown."""
    for table, column, kind in _COLUMNS:
        op.add_column(table, sa.Column(column, kind))


def downgrade() -> None:
    """Drop them."""
    for table, column, _ in _COLUMNS:
        op.drop_column(table, column)
