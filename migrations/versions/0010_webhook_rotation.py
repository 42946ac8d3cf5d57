"""The secret of a project before the one that signs its webhooks now, which signs along for a while."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; no secret has one before it."""
    op.add_column("webhook_secrets", sa.Column("previous_secret", sa.Text()))
    op.add_column("webhook_secrets", sa.Column("previous_until", sa.BigInteger()))


def downgrade() -> None:
    """Sign with the newest secrets only."""
    op.drop_column("webhook_secrets", "previous_until")
    op.drop_column("webhook_secrets", "previous_secret")
