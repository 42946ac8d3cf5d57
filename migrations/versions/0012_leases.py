"""Leases name no owner of their own: since 0004 what is open names the process that holds it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Remove what no statement names, also of the versions before that still run."""
    for column in ("lease_owner", "lease_token", "lease_expires_at"):
        op.drop_column("leases", column)


def downgrade() -> None:
    """Add the columns again, empty as they have always been."""
    op.add_column("leases", sa.Column("lease_owner", sa.Text()))
    op.add_column("leases", sa.Column("lease_token", _key()))
    op.add_column("leases", sa.Column("lease_expires_at", sa.BigInteger()))
