"""Interactions, their bodies and events, projects, keys and leases."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_DEFAULT_PROJECT = UUID("00000000-0000-7000-8000-000000000001")
_PARTITIONED = ("interactions", "payloads", "events")


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def _columns(types: sa.types.TypeEngine[Any], names: str, *, nullable: bool = True) -> list[sa.Column[Any]]:
    return [sa.Column(name, types, nullable=nullable) for name in names.split()]


def _partial_index(column: str) -> None:
    present = sa.text(f"{column} IS NOT NULL")
    op.create_index(
        f"ix_interactions_{column}", "interactions", [column], sqlite_where=present, postgresql_where=present
    )


def _create_interactions() -> None:
    op.create_table(
        "interactions",
        sa.Column("id", _key(), primary_key=True),
        sa.Column("project_id", _key(), nullable=False),
        *_columns(_key(), "key_id previous_id root_id"),
        *_columns(sa.BigInteger(), "depth", nullable=False),
        *_columns(_key(), "replay_of"),
        *_columns(sa.BigInteger(), "created_at", nullable=False),
        *_columns(sa.SmallInteger(), "revision", nullable=False),
        *_columns(sa.Boolean(), "stream background store", nullable=False),
        *_columns(sa.Text(), "model_requested agent labels"),
        *_columns(sa.BigInteger(), "request_bytes", nullable=False),
        *_columns(sa.Text(), "deployment_id upstream_id"),
        *_columns(sa.BigInteger(), "upstream_id_hash"),
        *_columns(sa.Boolean(), "upstream_stored", nullable=False),
        *_columns(sa.BigInteger(), "upstream_gone_at"),
        *_columns(sa.Text(), "status", nullable=False),
        *_columns(sa.Text(), "model service_tier"),
        *_columns(sa.SmallInteger(), "http_status"),
        *_columns(sa.Text(), "error_code error_message"),
        *_columns(sa.BigInteger(), "response_bytes"),
        *_columns(sa.Text(), "attempts"),
        *_columns(sa.BigInteger(), "updated_at", nullable=False),
        *_columns(sa.BigInteger(), "first_byte_at completed_at"),
        *_columns(sa.SmallInteger(), "usage_state", nullable=False),
        *_columns(
            sa.BigInteger(),
            "input_tokens output_tokens thought_tokens cached_tokens tool_use_tokens total_tokens",
        ),
        *_columns(sa.Text(), "usage_detail"),
        *_columns(sa.BigInteger(), "cost_nanos deleted_at"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (id)",
    )
    for column in ("upstream_id_hash", "previous_id", "root_id", "replay_of"):
        _partial_index(column)
    unfinished = sa.text("completed_at IS NULL")
    op.create_index(
        "ix_interactions_open", "interactions", ["id"], sqlite_where=unfinished, postgresql_where=unfinished
    )


def _create_bodies() -> None:
    for table, keys in (
        ("payloads", [sa.Column("kind", sa.SmallInteger(), primary_key=True, autoincrement=False)]),
        (
            "events",
            [
                sa.Column("first_seq", sa.BigInteger(), primary_key=True, autoincrement=False),
                sa.Column("last_seq", sa.BigInteger(), nullable=False),
            ],
        ),
    ):
        op.create_table(
            table,
            sa.Column("interaction_id", _key(), primary_key=True),
            *keys,
            sa.Column("codec", sa.SmallInteger(), nullable=False),
            sa.Column("size", sa.BigInteger(), nullable=False),
            sa.Column("body", sa.LargeBinary(), nullable=False),
            sqlite_with_rowid=False,
            postgresql_partition_by="RANGE (interaction_id)",
        )


def _create_administration() -> None:
    projects = op.create_table(
        "projects",
        sa.Column("id", _key(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    postgres = op.get_bind().dialect.name == "postgresql"
    default = _DEFAULT_PROJECT if postgres else _DEFAULT_PROJECT.bytes
    op.bulk_insert(projects, [{"id": default, "name": "default", "created_at": time.time_ns() // 1000}])
    op.create_table(
        "api_keys",
        sa.Column("id", _key(), primary_key=True),
        sa.Column("project_id", _key(), nullable=False),
        *_columns(sa.Text(), "name prefix", nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        *_columns(sa.BigInteger(), "expires_at revoked_at"),
    )
    op.create_index("ix_api_keys_project_id", "api_keys", ["project_id"])
    op.create_table(
        "leases",
        sa.Column("interaction_id", _key(), primary_key=True),
        sa.Column("kind", sa.Text(), primary_key=True),
        *_columns(sa.BigInteger(), "due_at tries", nullable=False),
        *_columns(sa.Text(), "lease_owner"),
        *_columns(_key(), "lease_token"),
        *_columns(sa.BigInteger(), "lease_expires_at"),
    )
    op.create_index("ix_leases_due", "leases", ["due_at"])


def upgrade() -> None:
    """Create everything."""
    _create_interactions()
    _create_bodies()
    _create_administration()
    if op.get_bind().dialect.name == "postgresql":
        for table in _PARTITIONED:
            op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
        # Bodies are compressed by the service already.
        op.execute("ALTER TABLE payloads ALTER COLUMN body SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE events ALTER COLUMN body SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Drop everything; dropping a partitioned table drops its partitions."""
    for table in ("leases", "api_keys", "projects", "events", "payloads", "interactions"):
        op.drop_table(table)
