"""Whom to tell of an outcome, and what signs what they are told."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Create both tables; what ran before has nobody to tell."""
    op.create_table(
        "webhooks",
        sa.Column("interaction_id", _key(), primary_key=True),
        sa.Column("place", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("user_metadata", sa.Text()),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("lease_token", _key()),
        sa.Column("settled_at", sa.BigInteger()),
        sa.Column("http_status", sa.SmallInteger()),
        sa.Column("error", sa.Text()),
        sqlite_with_rowid=False,
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_webhooks_due", "webhooks", ["due_at"], sqlite_where=due, postgresql_where=due)
    op.create_table(
        "webhook_secrets",
        sa.Column("project_id", _key(), primary_key=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Tell nobody any more."""
    op.drop_table("webhook_secrets")
    op.drop_table("webhooks")
