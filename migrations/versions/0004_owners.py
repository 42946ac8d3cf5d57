"""The process that holds each open interaction, so that another can take up what it leaves behind."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NOBODY = {"sqlite": f"x'{bytes(16).hex()}'", "postgresql": f"'{bytes(16).hex()}'"}


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def _index_open(*columns: str) -> None:
    op.drop_index("ix_interactions_open", "interactions")
    unfinished = sa.text("completed_at IS NULL")
    op.create_index(
        "ix_interactions_open",
        "interactions",
        list(columns),
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )


def upgrade() -> None:
    """Add the owner; what was open before has none, and is for the first process that comes."""
    nobody = sa.text(_NOBODY[op.get_bind().dialect.name])
    op.add_column("interactions", sa.Column("owner_id", _key(), nullable=False, server_default=nobody))
    _index_open("owner_id", "id")
    op.execute("DELETE FROM leases WHERE kind = 'reader'")


def downgrade() -> None:
    """Forget the owners."""
    op.execute("DELETE FROM leases WHERE kind IN ('process', 'usage')")
    _index_open("id")
    op.drop_column("interactions", "owner_id")
