"""What the processes on one database know of their deployments."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "deployment_states",
        sa.Column("replica", _key(), primary_key=True),
        sa.Column("deployment_id", sa.Text(), primary_key=True),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cooling_until", sa.BigInteger()),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("told_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_deployment_states_told_at", "deployment_states", ["told_at"])


def downgrade() -> None:
    """Forget it."""
    op.drop_table("deployment_states")
