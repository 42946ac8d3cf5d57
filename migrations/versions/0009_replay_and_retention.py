"""Times of events, digests of requests, legal holds, and what a rule of retention has deleted."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Add what is new; what was logged before has no times."""
    op.add_column("interactions", sa.Column("expired_at", sa.BigInteger()))
    op.add_column("events", sa.Column("timings", sa.LargeBinary()))
    op.create_table(
        "recordings",
        sa.Column("interaction_id", _key(), primary_key=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_recordings_digest", "recordings", ["digest"])
    op.create_table(
        "progress",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("position", _key(), nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("id", _key(), primary_key=True),
        sa.Column("project_id", _key(), nullable=False),
        sa.Column("interaction_id", _key()),
        sa.Column("label", sa.Text()),
        sa.Column("label_value", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.BigInteger()),
    )
    standing = sa.text("interaction_id IS NOT NULL AND released_at IS NULL")
    op.create_index(
        "ix_holds_interaction_id",
        "holds",
        ["interaction_id"],
        sqlite_where=standing,
        postgresql_where=standing,
    )


def downgrade() -> None:
    """Remove it again; what has expired stays deleted, and nothing is held any more."""
    for table in ("holds", "progress", "recordings"):
        op.drop_table(table)
    op.drop_column("events", "timings")
    op.drop_column("interactions", "expired_at")
