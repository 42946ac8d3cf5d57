"""The statements of an import: whole interactions with keys of their own, rows first and bodies after them.

What is there stays as it is: nothing is written for a key that is taken but what the same interaction lacks, and
nothing for one that is deleted. No chain leads into another project, or back to where it began: a row whose parent is
another project's, or not less deep, is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Executable,
    FromClause,
    Join,
    Select,
    Table,
    exists,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.sql.dml import Insert

from service.store.statement import BatchStatement, Particulars, columns_of
from service.store.tables import Key, events, interactions, media, media_contents, payloads, projects

#: What every database derives for itself.
_OWN: Final = ("derived_state", "series_id")
#: All columns of a row, in the order of :data:`BRING_ROW`.
ROW: Final = tuple(str(column.name) for column in interactions.c if column.name not in _OWN)

_ROW = columns_of(interactions, " ".join(ROW))
_PROJECT = columns_of(projects, "id name created_at")
#: To see that a row is the one which these belong to.
_OWNER = (Column("project_id", Key), Column("completed_at", BigInteger))
_BODY = (*columns_of(payloads, "interaction_id codec size body kind"), *_OWNER)
_EVENTS = (
    *columns_of(events, "interaction_id codec size body first_seq last_seq upstream_cursor timings"),
    *_OWNER,
)
_REFERENCE = (*columns_of(media, "interaction_id uri_digest content_id mime_type kept_at"), *_OWNER)


def _insert_project(rows: FromClause, database: Particulars) -> Executable:
    names = [column.name for column in _PROJECT]
    chosen = select(*(rows.c[name] for name in names)).where(true()).order_by(rows.c.id)
    statement: Insert = database.insert(projects).from_select(names, chosen).on_conflict_do_nothing()
    return statement


def _insert_row(rows: FromClause, database: Particulars) -> Executable:
    parent = interactions.alias("parent")
    foreign: Select[Any] = select(literal_column("1")).where(
        parent.c.id == rows.c.previous_id,
        or_(parent.c.project_id != rows.c.project_id, parent.c.depth >= rows.c.depth),
    )
    chosen = select(*(rows.c[name] for name in ROW)).where(~exists(foreign)).order_by(rows.c.id)
    statement: Insert = database.insert(interactions).from_select(ROW, chosen).on_conflict_do_nothing()
    return statement


def _of_owner(table: Table, names: list[str], needed: Callable[[FromClause], Join] | None = None) -> Any:
    """Inserts what belongs to an interaction that is there; ``needed`` joins what else must be."""

    def build(rows: FromClause, database: Particulars) -> Executable:
        given = rows if needed is None else needed(rows)
        chosen: Select[Any] = (
            select(*(rows.c[name] for name in names))
            .select_from(given.join(interactions, interactions.c.id == rows.c.interaction_id))
            .where(
                interactions.c.project_id == rows.c.project_id,
                interactions.c.completed_at.is_not_distinct_from(rows.c.completed_at),
                interactions.c.deleted_at.is_(None),
            )
            .with_for_update(read=True, of=interactions)
        )
        statement: Insert = database.insert(table).from_select(names, chosen).on_conflict_do_nothing()
        return statement

    return build


def _with_content(rows: FromClause) -> Join:
    return rows.join(media_contents, media_contents.c.id == rows.c.content_id)


def _names(columns: tuple[Column[Any], ...]) -> list[str]:
    return [column.name for column in columns if column not in _OWNER]


BRING_PROJECT = BatchStatement("bring project", _PROJECT, _insert_project)
BRING_ROW = BatchStatement("bring row", _ROW, _insert_row)
BRING_BODY = BatchStatement(
    "bring body", _BODY, _of_owner(payloads, _names(_BODY)), packs=True, looks_again=True
)
BRING_EVENTS = BatchStatement(
    "bring events", _EVENTS, _of_owner(events, _names(_EVENTS)), packs=True, looks_again=True
)
#: Comes with :data:`~service.store.media.KEEP_CONTENT` and :data:`~service.store.media.TOUCH_CONTENT`.
BRING_REFERENCE = BatchStatement(
    "bring media reference", _REFERENCE, _of_owner(media, _names(_REFERENCE), _with_content), looks_again=True
)
BRINGING: Final = (BRING_PROJECT, BRING_ROW, BRING_BODY, BRING_EVENTS, BRING_REFERENCE)
