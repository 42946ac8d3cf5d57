"""Inputs that later requests begin with, media that conversations refer to, content kept for follow-ups."""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.store.codec import Codec

logger = logging.getLogger(__name__)

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


def _index_children(condition: str) -> None:
    op.drop_index("ix_interactions_previous_id", "interactions")
    chosen = sa.text(condition)
    op.create_index(
        "ix_interactions_previous_id",
        "interactions",
        ["previous_id"],
        sqlite_where=chosen,
        postgresql_where=chosen,
    )


def upgrade() -> None:
    """Add what is new; what was deleted before had its content erased at once."""
    op.add_column("interactions", sa.Column("erased_at", sa.BigInteger()))
    op.execute("UPDATE interactions SET erased_at = deleted_at WHERE deleted_at IS NOT NULL")
    kept = sa.text("deleted_at IS NOT NULL AND erased_at IS NULL")
    op.create_index("ix_interactions_kept", "interactions", ["id"], sqlite_where=kept, postgresql_where=kept)
    _index_children("previous_id IS NOT NULL AND erased_at IS NULL")
    _create_inputs()
    _create_media()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE media_contents ALTER COLUMN body SET STORAGE EXTERNAL")


def _erase_kept() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # What was deleted is overwritten, not only forgotten.
        op.execute("PRAGMA secure_delete = ON")
    op.execute(
        "DELETE FROM payloads WHERE interaction_id IN "
        "(SELECT id FROM interactions WHERE deleted_at IS NOT NULL AND erased_at IS NULL)"
    )


_payloads = sa.table(
    "payloads",
    sa.column("interaction_id", _key()),
    sa.column("kind", sa.SmallInteger()),
    sa.column("codec", sa.SmallInteger()),
    sa.column("size", sa.BigInteger()),
    sa.column("body", sa.LargeBinary()),
)
_inputs = sa.table(
    "inputs",
    sa.column("interaction_id", _key()),
    sa.column("digest", sa.LargeBinary(16)),
    sa.column("start", sa.BigInteger()),
    sa.column("size", sa.BigInteger()),
    sa.column("base_id", _key()),
)
_interactions = sa.table("interactions", sa.column("id", _key()), sa.column("project_id", _key()))


class _Requests:
    """Puts back into every request what it was stored without: from those that have no base on, one after another."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._codec = Codec()

    def make_whole(self) -> None:
        below = _inputs.alias("below")
        has_base = sa.exists().where(
            below.c.interaction_id == _inputs.c.base_id, below.c.base_id.is_not(None)
        )
        chosen = sa.select(_inputs.c.base_id).where(_inputs.c.base_id.is_not(None), ~has_base).distinct()
        pending = list(self._connection.execute(chosen).scalars())
        while pending:
            pending += self._make_followers_whole(pending.pop())
        self._give_up_the_rest()

    def _make_followers_whole(self, base: Any) -> list[Any]:
        place = sa.select(_inputs.c.start, _inputs.c.size).where(_inputs.c.interaction_id == base)
        found, body = self._connection.execute(place).one_or_none(), self._body(base)
        if found is None or body is None:
            return []
        region = body[found.start : found.start + found.size]
        followers = (
            sa.select(_inputs, _interactions.c.project_id)
            .join_from(_inputs, _interactions, _interactions.c.id == _inputs.c.interaction_id)
            .where(_inputs.c.base_id == base)
        )
        return [
            row.interaction_id for row in self._connection.execute(followers).all() if self._put(row, region)
        ]

    def _put(self, row: Any, region: bytes) -> bool:
        """Write a request with its base's region in it, unless that is not the one it was stored without."""
        rest = self._body(row.interaction_id)
        if rest is None:
            return False
        whole = rest[: row.start] + region + rest[row.start :]
        own = whole[row.start : row.start + row.size]
        project = getattr(row.project_id, "bytes", row.project_id)
        # What only repeats its base has no digest.
        same = (
            blake2b(own, digest_size=16, key=project).digest() == row.digest if row.digest else own == region
        )
        if not same:
            return False
        ((codec, size, body),) = self._codec.pack([whole])
        request = sa.update(_payloads).where(
            _payloads.c.interaction_id == row.interaction_id, _payloads.c.kind == 1
        )
        self._connection.execute(request.values(codec=codec, size=size, body=body))
        alone = sa.update(_inputs).where(_inputs.c.interaction_id == row.interaction_id)
        self._connection.execute(alone.values(base_id=None))
        return True

    def _body(self, key: Any) -> bytes | None:
        columns = (_payloads.c.codec, _payloads.c.size, _payloads.c.body)
        chosen = sa.select(*columns).where(_payloads.c.interaction_id == key, _payloads.c.kind == 1)
        found = self._connection.execute(chosen).one_or_none()
        return None if found is None else self._codec.unpack(*found)

    def _give_up_the_rest(self) -> None:
        """Remove requests whose base is missing: the bytes that are left are not what was sent."""
        damaged = list(
            self._connection.execute(
                sa.select(_inputs.c.interaction_id).where(_inputs.c.base_id.is_not(None))
            ).scalars()
        )
        for key in damaged:
            logger.error("the request of an interaction cannot be made whole, and is removed: %s", _hex(key))
            self._connection.execute(
                sa.delete(_payloads).where(_payloads.c.interaction_id == key, _payloads.c.kind == 1)
            )


def _hex(key: Any) -> str:
    text: str = getattr(key, "bytes", key).hex()
    return text


def downgrade() -> None:
    """Remove it again; without ``erased_at``, a deleted interaction has no content."""
    _Requests(op.get_bind()).make_whole()
    for table in ("media_contents", "media", "inputs"):
        op.drop_table(table)
    _erase_kept()
    op.drop_index("ix_interactions_kept", "interactions")
    _index_children("previous_id IS NOT NULL")
    op.drop_column("interactions", "erased_at")
