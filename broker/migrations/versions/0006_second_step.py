"""What follows a search: reviews, requests for disclosure, notices and recalls.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = (
    "reviews",
    "review_settlements",
    "reviewer_revocations",
    "disclosures",
    "force_statements",
    "recalls",
    "recall_cursors",
    "notices",
)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "reviews",
        sa.Column("search_id", sa.String(36), primary_key=True),
        sa.Column("agency", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("review_id", sa.String(36), nullable=False),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("person", sa.String(128), nullable=False),
        sa.Column("finished_us", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("search_id", "agency", "person", name="uq_reviews_person"),
        sa.UniqueConstraint("search_id", "agency", "review_id", name="uq_reviews_review"),
    )
    op.create_index("ix_reviews_person", "reviews", ["force", "person"])
    op.create_table(
        "review_settlements",
        sa.Column("search_id", sa.String(36), primary_key=True),
        sa.Column("standing_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "reviewer_revocations",
        sa.Column("force", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("person", sa.String(128), nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("reviews", sa.Integer, nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_reviewer_revocations_person", "reviewer_revocations", ["force", "person"])
    op.create_table(
        "disclosures",
        sa.Column("force", sa.String(64), primary_key=True),
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("search_id", sa.String(36), nullable=False),
        sa.Column("agency", sa.String(64), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("sealed_key_id", sa.String(128), nullable=False),
        sa.Column("sealed_facts", sa.LargeBinary, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
        sa.Column("decide_by_us", sa.BigInteger),
        sa.Column("decision", sa.LargeBinary),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("expires_us", sa.BigInteger),
        sa.Column("decision_index", sa.BigInteger),
        sa.Column("delivered_us", sa.BigInteger),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("next_us", sa.BigInteger),
        sa.Column("until_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_disclosures_expires", "disclosures", ["expires_us"])
    op.create_index("ix_disclosures_listing", "disclosures", ["force", "created_us", "request_id"])
    op.create_index("ix_disclosures_next", "disclosures", ["next_us"])
    op.create_table(
        "force_statements",
        sa.Column("force", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(96), primary_key=True),
        sa.Column("statement_id", sa.String(36), primary_key=True),
        sa.Column("search_id", sa.String(36), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "recalls",
        sa.Column("agency", sa.String(64), primary_key=True),
        sa.Column("recall_id", sa.String(36), primary_key=True),
        sa.Column("force", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("search_id", sa.String(36), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
        sa.Column("acknowledged_us", sa.BigInteger),
        sa.Column("acknowledgement_sha256", sa.LargeBinary(32)),
        sa.Column("acknowledgement_index", sa.BigInteger),
        sa.UniqueConstraint("force", "number", name="uq_recalls_number"),
    )
    op.create_index("ix_recalls_candidate", "recalls", ["search_id", "agency", "reference"])
    op.create_table(
        "recall_cursors",
        sa.Column("agency", sa.String(64), primary_key=True),
        sa.Column("after", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "notices",
        sa.Column("agency", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("next_us", sa.BigInteger),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
    )
    op.create_index("ix_notices_next", "notices", ["next_us"])


def downgrade() -> None:
    """Drop the tables."""
    for name in reversed(TABLES):
        op.drop_table(name)
