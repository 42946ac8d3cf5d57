"""What is derived from interactions: terms to list them by, documents to search, roll-ups of their usage."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COUNTS = (
    "requests errors unmeasured unpriced input_tokens output_tokens thought_tokens cached_tokens tool_use_tokens "
    "total_tokens cost_nanos"
)


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def _create_rollups() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.LargeBinary(16), primary_key=True),
        sa.Column("grain", sa.SmallInteger(), nullable=False),
        sa.Column("project_id", _key(), nullable=False),
        sa.Column("key_id", _key()),
        sa.Column("model", sa.Text()),
        sa.Column("agent", sa.Text()),
        sa.Column("deployment_id", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text()),
        sa.Column("service_tier", sa.Text()),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("background", sa.Boolean(), nullable=False),
        sa.Column("labels", sa.Text()),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollups",
        sa.Column("project_id", _key(), primary_key=True),
        sa.Column("grain", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("span", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("series_id", sa.LargeBinary(16), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS.split()),
        sa.Column("modalities", sa.Text(), nullable=False),
        sa.Column("durations", sa.LargeBinary(), nullable=False),
        sa.Column("first_events", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )


def _create_terms(*, postgres: bool) -> None:
    op.create_table(
        "listing_terms",
        sa.Column("term", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("interaction_id", _key(), primary_key=True),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (interaction_id)",
    )
    if postgres:
        op.execute("CREATE TABLE listing_terms_default PARTITION OF listing_terms DEFAULT")


def _create_documents_of_postgres() -> None:
    op.execute(
        "CREATE TABLE search_documents (interaction_id uuid PRIMARY KEY, input text NOT NULL, output text NOT NULL, "
        "vector tsvector NOT NULL) PARTITION BY RANGE (interaction_id)"
    )
    op.execute("CREATE TABLE search_documents_default PARTITION OF search_documents DEFAULT")
    op.execute("CREATE INDEX ix_search_documents_vector ON search_documents USING gin (vector)")


def _create_documents_of_sqlite() -> None:
    op.execute(
        "CREATE TABLE search_documents (number INTEGER PRIMARY KEY, interaction_id BLOB NOT NULL UNIQUE, "
        "input TEXT NOT NULL, output TEXT NOT NULL)"
    )
    op.execute(
        "CREATE VIRTUAL TABLE search_index USING fts5(input, output, content='search_documents', "
        "content_rowid='number', tokenize='unicode61 remove_diacritics 2')"
    )
    op.execute(
        "CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents BEGIN "
        "INSERT INTO search_index (rowid, input, output) VALUES (new.number, new.input, new.output); END"
    )
    op.execute(
        "CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents BEGIN "
        "INSERT INTO search_index (search_index, rowid, input, output) "
        "VALUES ('delete', old.number, old.input, old.output); "
        "UPDATE search_deletions SET number = number + 1; END"
    )
    op.execute("CREATE TABLE search_deletions (number INTEGER NOT NULL)")
    op.execute("INSERT INTO search_deletions VALUES (0)")


def upgrade() -> None:
    """Add what is new; everything that is there already waits to be derived from."""
    postgres = op.get_bind().dialect.name == "postgresql"
    op.add_column(
        "interactions", sa.Column("derived_state", sa.SmallInteger(), nullable=False, server_default="0")
    )
    op.add_column("interactions", sa.Column("series_id", sa.LargeBinary(16)))
    waiting = sa.text("derived_state IN (0, 3)")
    op.create_index(
        "ix_interactions_waiting",
        "interactions",
        ["id"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    _create_rollups()
    _create_terms(postgres=postgres)
    if postgres:
        _create_documents_of_postgres()
    else:
        _create_documents_of_sqlite()


def downgrade() -> None:
    """Remove it again: all of it can be derived anew, but for what roll-ups know of labels of deleted interactions."""
    if op.get_bind().dialect.name == "sqlite":
        # What was deleted is overwritten, not only forgotten.
        op.execute("PRAGMA secure_delete = ON")
        op.execute("DROP TABLE search_index")
    for table in ("search_documents", "listing_terms", "rollups", "series"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE search_deletions")
    op.drop_index("ix_interactions_waiting", "interactions")
    op.drop_column("interactions", "series_id")
    op.drop_column("interactions", "derived_state")
