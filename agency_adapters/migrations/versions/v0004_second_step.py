"""What follows a search: whose order it was, requests for details, reviewers revoked, recalls.

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
    """Create the tables."""
    op.create_table(
        "recipients",
        sa.Column("order_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(256), nullable=False),
    )
    op.create_table(
        "releases",
        sa.Column("request_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("broker", sa.String(64), nullable=False),
        sa.Column("record_id", sa.String(64), nullable=False),
        sa.Column("fields", sa.String, nullable=False),
        sa.Column("reviewers", sa.String),
        sa.Column("order_payload", sa.LargeBinary),
        sa.Column("facts", sa.String),
        sa.Column("ask", sa.String, nullable=False),
        sa.Column("switches", sa.String, nullable=False),
        sa.Column("needed", sa.Integer, nullable=False),
        sa.Column("received_us", sa.BigInteger, nullable=False),
        sa.Column("decide_by_us", sa.BigInteger, nullable=False),
        sa.Column("flagged", sa.Boolean, nullable=False),
        sa.Column("decision", sa.LargeBinary),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("leaf_index", sa.BigInteger),
    )
    op.create_index("ix_releases_request", "releases", ["force", "request_id"], unique=True)
    op.create_index("ix_releases_leaf", "releases", ["leaf_index", "received_us"])
    op.create_table(
        "release_reviews",
        sa.Column("request_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("reviewer", sa.String(128), primary_key=True),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "revoked_reviewers",
        sa.Column("revocation_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("reviewer", sa.String(128), nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_revoked_reviewers", "revoked_reviewers", ["force", "reviewer"])
    op.create_table(
        "wrong_matches",
        sa.Column("notice_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("report_id", sa.String(36), nullable=False),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("search_id", sa.String(36), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("reasons", sa.String, nullable=False),
        sa.Column("reported_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "recalls",
        sa.Column("recall_id", sa.String(36), primary_key=True),
        sa.Column("order_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("search_id", sa.String(36), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("record_id", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("notice", sa.String, nullable=False),
        sa.Column("ordered_us", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.String(256)),
        sa.Column("number", sa.BigInteger),
        sa.Column("recall", sa.LargeBinary),
    )
    op.create_index("ix_recalls_number", "recalls", ["origin", "number"])
    op.create_index("ix_recalls_reference", "recalls", ["reference"])
    op.create_table(
        "recall_acknowledgements",
        sa.Column("notice_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("recall_id", sa.String(36), nullable=False),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("acknowledged_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_recall_acknowledgements", "recall_acknowledgements", ["recall_id"])


def downgrade() -> None:
    """Drop the tables."""
    for table in (
        "recall_acknowledgements",
        "recalls",
        "wrong_matches",
        "revoked_reviewers",
        "release_reviews",
        "releases",
        "recipients",
    ):
        op.drop_table(table)
