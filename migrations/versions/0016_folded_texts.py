"""Texts that SQLite's index does not fold as PostgreSQL's does are put into it as words that the service has folded.

Those that are in the index already stay as they are, and so do those of processes of the version before.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_INSERTED = (
    "CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents BEGIN "
    "INSERT INTO search_index (rowid, input, output) VALUES (new.number, new.input, new.output); END"
)
_DELETED = (
    "CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents BEGIN "
    "INSERT INTO search_index (search_index, rowid, input, output) "
    "VALUES ('delete', old.number, old.input, old.output); "
    "UPDATE search_deletions SET number = number + 1; END"
)
_INSERTED_FOLDED = (
    "CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents BEGIN "
    "INSERT INTO search_index (rowid, input, output) "
    "VALUES (new.number, coalesce(new.folded_input, new.input), coalesce(new.folded_output, new.output)); END"
)
_DELETED_FOLDED = (
    "CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents BEGIN "
    "INSERT INTO search_index (search_index, rowid, input, output) VALUES "
    "('delete', old.number, coalesce(old.folded_input, old.input), coalesce(old.folded_output, old.output)); "
    "UPDATE search_deletions SET number = number + 1; END"
)


def upgrade() -> None:
    """Add what is in the index instead of a text, where that is another thing."""
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute("ALTER TABLE search_documents ADD COLUMN folded_input TEXT")
    op.execute("ALTER TABLE search_documents ADD COLUMN folded_output TEXT")
    _replace_triggers(_INSERTED_FOLDED, _DELETED_FOLDED)


def downgrade() -> None:
    """Put the texts themselves into the index again."""
    if op.get_bind().dialect.name != "sqlite":
        return
    # What was deleted is overwritten, not only forgotten.
    op.execute("PRAGMA secure_delete = ON")
    op.execute(
        "INSERT INTO search_index (search_index, rowid, input, output) "
        "SELECT 'delete', number, coalesce(folded_input, input), coalesce(folded_output, output) "
        "FROM search_documents WHERE folded_input IS NOT NULL OR folded_output IS NOT NULL"
    )
    op.execute(
        "INSERT INTO search_index (rowid, input, output) SELECT number, input, output "
        "FROM search_documents WHERE folded_input IS NOT NULL OR folded_output IS NOT NULL"
    )
    _replace_triggers(_INSERTED, _DELETED)
    op.execute("ALTER TABLE search_documents DROP COLUMN folded_input")
    op.execute("ALTER TABLE search_documents DROP COLUMN folded_output")


def _replace_triggers(inserted: str, deleted: str) -> None:
    op.execute("DROP TRIGGER search_documents_insert")
    op.execute(inserted)
    op.execute("DROP TRIGGER search_documents_delete")
    op.execute(deleted)
