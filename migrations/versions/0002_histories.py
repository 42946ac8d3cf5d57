"""Inputs that later requests begin with, media that conversations refer to, content kept for follow-ups."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def _create_inputs() -> None:
    op.create_table(
        "inputs",
        sa.Column("interaction_id", _key(), primary_key=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("base_id", _key()),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_inputs_digest", "inputs", ["digest"])
    present = sa.text("base_id IS NOT NULL")
    op.create_index(
        "ix_inputs_base_id", "inputs", ["base_id"], sqlite_where=present, postgresql_where=present
    )


def _create_media() -> None:
    op.create_table(
        "media",
        sa.Column("interaction_id", _key(), primary_key=True),
        sa.Column("uri_digest", sa.LargeBinary(16), primary_key=True),
        sa.Column("content_id", sa.LargeBinary(32), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("kept_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_media_uri_digest", "media", ["uri_digest"])
    op.create_index("ix_media_content_id", "media", ["content_id"])
    op.create_table(
        "media_contents",
        sa.Column("id", sa.LargeBinary(32), primary_key=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
    )


def upgrade() -> None:
    """Add what is new; what was deleted before had its content erased at once."""
    op.add_column("interactions", sa.Column("erased_at", sa.BigInteger()))
    op.execute("UPDATE interactions SET erased_at = deleted_at WHERE deleted_at IS NOT NULL")
    kept = sa.text("deleted_at IS NOT NULL AND erased_at IS NULL")
    op.create_index("ix_interactions_kept", "interactions", ["id"], sqlite_where=kept, postgresql_where=kept)
    _create_inputs()
    _create_media()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE media_contents ALTER COLUMN body SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Remove it again."""
    for table in ("media_contents", "media", "inputs"):
        op.drop_table(table)
    op.drop_index("ix_interactions_kept", "interactions")
    op.drop_column("interactions", "erased_at")
