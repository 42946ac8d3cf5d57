"""How busy and how fast each deployment is, as the processes on one database tell one another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; who has not told it has nothing under way."""
    op.add_column(
        "deployment_states", sa.Column("running", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("deployment_states", sa.Column("latency", sa.BigInteger()))


def downgrade() -> None:
    """Remove it again."""
    op.drop_column("deployment_states", "latency")
    op.drop_column("deployment_states", "running")
