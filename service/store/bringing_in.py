"""The statements of an import: whole interactions with keys of their own, rows first and bodies after them.

What is there stays as it is: nothing is written for a key that is taken but what the same interaction lacks, and
nothing for one that is deleted. No chain leads into another project, or back to where it began: a row whose parent is
another project's, or not less deep, is left out.

What comes in open may go on where it was made, and be brought in again when it has ended there: then that takes its
place. Until then it belongs to a holder, which is a process to all others: there is one for each :data:`PERIODS` of
imports, alive for :data:`LIVES` after the last import of its period that brought something open. Then it is for the
first process that comes, which asks upstream or gives a verdict, and changes no more by an import.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Executable,
    FromClause,
    Join,
    Select,
    Table,
    Text,
    and_,
    case,
    delete,
    exists,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import Insert

from service.store.clock import Clock
from service.store.statement import BatchStatement, Particulars, columns_of
from service.store.tables import (
    BROUGHT,
    RESPONSE_PAYLOAD,
    Key,
    events,
    interactions,
    leases,
    media,
    media_contents,
    payloads,
    projects,
)


class Kind(IntEnum):
    """Of open imports: whether upstream can be asked about them."""

    ASKABLE = 1
    SILENT = 2


#: Microseconds that a holder of open imports lives: what upstream can be asked about is soon asked about; for the rest
#: a verdict is all that can be given, and the next day's import may bring its end.
LIVES: Final = {Kind.ASKABLE: 600_000_000, Kind.SILENT: 48 * 3_600_000_000}
#: Microseconds of imports that share a holder: however often something open is brought in, no holder lives longer than
#: its period and its life.
PERIODS: Final = {Kind.ASKABLE: 600_000_000, Kind.SILENT: 24 * 3_600_000_000}
#: What every database derives for itself.
_OWN: Final = ("derived_state", "series_id")
#: All columns of a row, in the order of :data:`BRING_ROW`.
ROW: Final = tuple(str(column.name) for column in interactions.c if column.name not in _OWN)

_ROW = columns_of(interactions, " ".join(ROW))
_HOLDER = Column("holder_id", Key)
#: What an interaction is from its beginning on.
_LASTING: Final = ("id", "project_id", "previous_id", "root_id", "depth")
_ENDED = (
    *columns_of(interactions, "id project_id previous_id root_id depth completed_at deleted_at"),
    _HOLDER,
)
_PROJECT = columns_of(projects, "id name created_at")
#: To see that a row is the one which these belong to.
_OWNER = (Column("project_id", Key), Column("completed_at", BigInteger))
_BODY = (*columns_of(payloads, "interaction_id codec size body kind"), *_OWNER)
_EVENTS = (
    *columns_of(events, "interaction_id codec size body first_seq last_seq upstream_cursor timings"),
    *_OWNER,
)
_REFERENCE = (*columns_of(media, "interaction_id uri_digest content_id mime_type kept_at"), *_OWNER)


def holder_of(kind: Kind, moment: int) -> bytes:
    """Who holds what is brought in open at that time, in microseconds since the epoch."""
    return BROUGHT[:8] + bytes((kind,)) + (moment // PERIODS[kind]).to_bytes(7, "big")


def life_of(holder: bytes) -> int:
    """How many microseconds it lives after an import."""
    return LIVES[Kind(holder[8])]


def is_holder(owner: bytes) -> bool:
    """Whether somebody holds open imports."""
    return owner >= BROUGHT


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


def _is_ended_by(rows: FromClause) -> Any:
    """Whether a row is an open import, and the other one its end."""
    same = (interactions.c[name].is_not_distinct_from(rows.c[name]) for name in _LASTING)
    return and_(
        *same,
        interactions.c.completed_at.is_(None),
        interactions.c.deleted_at.is_(None),
        interactions.c.owner_id == rows.c.holder_id,
        rows.c.completed_at.is_not(None),
    )


def _replace_row(rows: FromClause, database: Particulars) -> Executable:
    values = {name: rows.c[name] for name in ROW if name not in _LASTING}
    return update(interactions).values(values).where(_is_ended_by(rows))


def _drop(table: Table, *, response_only: bool = False) -> Any:
    """Deletes what the end of an open import brings anew."""

    def build(rows: FromClause, database: Particulars) -> Executable:
        ended: Select[Any] = select(interactions.c.id).select_from(
            rows.join(interactions, _is_ended_by(rows))
        )
        statement = delete(table).where(table.c.interaction_id.in_(ended))
        if response_only:
            deleted = select(rows.c.id).where(rows.c.deleted_at.is_not(None))
            kind = literal_column(str(RESPONSE_PAYLOAD), BigInteger)
            statement = statement.where(or_(table.c.kind == kind, table.c.interaction_id.in_(deleted)))
        return statement

    return build


def _live_on(rows: FromClause, database: Particulars) -> Executable:
    names = ["interaction_id", "kind", "due_at", "tries"]
    process, none = literal_column("'process'", Text), literal_column("0", BigInteger)
    until = Clock() + rows.c.lease
    # Two imports that live on by the same holders wait for each other; in one order, neither waits for ever.
    chosen = select(rows.c.interaction_id, process, until, none).where(true()).order_by(rows.c.interaction_id)
    statement = database.insert(leases).from_select(names, chosen)
    later = statement.excluded.due_at
    result: Insert = statement.on_conflict_do_update(
        index_elements=[leases.c.interaction_id, leases.c.kind],
        set_={"due_at": case((later > leases.c.due_at, later), else_=leases.c.due_at)},
    )
    return result


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
#: A holder lives for so many microseconds from now on, or longer if it does already. Its row is locked until the batch
#: is committed, so that nobody takes over what it holds meanwhile; and what was taken over before, the other statements
#: of the batch see.
LIVE_ON = BatchStatement(
    "hold what is brought",
    (*columns_of(leases, "interaction_id"), Column("lease", BigInteger)),
    _live_on,
    goes_ahead=True,
)
#: The end of what came in open. Written only together with :data:`LIVE_ON` of its holder.
DROP_BODIES = BatchStatement("drop open bodies", _ENDED, _drop(payloads, response_only=True))
DROP_EVENTS = BatchStatement("drop open events", _ENDED, _drop(events))
REPLACE_ROW = BatchStatement("replace open row", (*_ROW, _HOLDER), _replace_row)
ENDED: Final = tuple(str(column.name) for column in _ENDED if column is not _HOLDER)
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
BRINGING: Final = (
    LIVE_ON,
    DROP_BODIES,
    DROP_EVENTS,
    REPLACE_ROW,
    BRING_PROJECT,
    BRING_ROW,
    BRING_BODY,
    BRING_EVENTS,
    BRING_REFERENCE,
)
