"""Upstream's own cursor beside the events it ended with, so that any process can go on where a reader stopped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the cursor; what was logged before has none."""
    op.add_column("events", sa.Column("upstream_cursor", sa.Text()))


def downgrade() -> None:
    """Forget the cursors."""
    op.drop_column("events", "upstream_cursor")
