"""Digests of requests (:mod:`service.wire.canonical`), to find stored answers for requests that ask the same.

They are made behind the requests, and only once somebody asks for a recorded answer: the store is gone through in the
order of keys, and a mark says how far. Rows with a key below the mark may still come, from a process whose clock is a
little behind, so each pass begins some time before it; what is brought in with older keys has to lower the mark.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    Executable,
    FromClause,
    LargeBinary,
    Select,
    Text,
    bindparam,
    case,
    delete,
    exists,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import Insert

from service.store.records import TERMINAL
from service.store.statement import BatchStatement, Particulars, Query, columns_of, insert_rows
from service.store.tables import Key, interactions, progress, recordings

#: Requests whose digests are made before the mark is moved.
PAGE: Final = 500
#: The name of the mark.
MARK: Final = "recordings"
#: What upstream gave an end of its own, whether or not a follow-up may build on it.
_ANSWERED: Final = sorted(TERMINAL - {"failed", "cancelled"})
_ID: Final = bindparam("id", type_=Key)
_PROJECT: Final = bindparam("project_id", type_=Key)
_RECORDING = columns_of(recordings, "interaction_id digest")
_MARKS = columns_of(progress, "position name")


def _insert(rows: FromClause, database: Particulars) -> Executable:
    chosen = (
        select(rows.c.interaction_id, rows.c.digest)
        .select_from(rows.join(interactions, interactions.c.id == rows.c.interaction_id))
        .where(interactions.c.erased_at.is_(None))
    )
    names = [column.name for column in _RECORDING]
    statement: Insert = database.insert(recordings).from_select(names, chosen).on_conflict_do_nothing()
    return statement


def _set(rows: FromClause, database: Particulars) -> Executable:
    return insert_rows(progress, _MARKS, rows, database)


def _move(rows: FromClause, database: Particulars) -> Executable:
    """On, unless somebody else has moved or lowered the mark meanwhile."""
    return (
        update(progress)
        .values(position=rows.c.position)
        .where(progress.c.name == rows.c.name, progress.c.position == rows.c.key)
    )


def _lower(rows: FromClause, database: Particulars) -> Executable:
    """To the lowest of these, and locked where it is: whoever moves it on waits, and then sees what comes in here."""
    other = rows.alias("other")
    lower: Select[Any] = select(literal_column("1")).where(
        other.c.name == rows.c.name, other.c.position < rows.c.position
    )
    position = case((progress.c.position > rows.c.position, rows.c.position), else_=progress.c.position)
    return (
        update(progress)
        .values(position=position)
        .where(progress.c.name == rows.c.name, ~exists(lower.correlate(rows)))
    )


def _delete(rows: FromClause, database: Particulars) -> Executable:
    return delete(recordings).where(recordings.c.interaction_id.in_(select(rows.c.interaction_id)))


def _forget_below(rows: FromClause, database: Particulars) -> Executable:
    first, child = interactions.alias("first"), interactions.alias("child")
    start = (
        select(first.c.id)
        .select_from(rows.join(first, first.c.previous_id == rows.c.interaction_id))
        .where(first.c.erased_at.is_(None))
    )
    walk = start.cte("below", recursive=True)
    step = (
        select(child.c.id)
        .select_from(walk.join(child, child.c.previous_id == walk.c.id))
        .where(child.c.erased_at.is_(None))
    )
    below = walk.union(step)
    return delete(recordings).where(recordings.c.interaction_id.in_(select(below.c.id)))


INSERT_RECORDING = BatchStatement("insert recording", _RECORDING, _insert)
SET_MARK = BatchStatement("set mark", _MARKS, _set)
#: ``key`` is where the mark was.
MOVE_MARK = BatchStatement("move mark", (*_MARKS, Column("key", Key)), _move)
LOWER_MARK = BatchStatement("lower mark", _MARKS, _lower)
#: Forget the digests of whatever follows these: what it follows was not there when they were made.
FORGET_BELOW = BatchStatement("forget digests below", (Column("interaction_id", Key),), _forget_below)
DELETE_RECORDINGS = BatchStatement("delete recordings", (Column("interaction_id", Key),), _delete)
RECORDING: Final = (INSERT_RECORDING, SET_MARK, MOVE_MARK, LOWER_MARK, FORGET_BELOW)

POSITION = Query(
    "position of a mark", select(progress.c.position).where(progress.c.name == bindparam("name", type_=Text))
)
UNDIGESTED = Query(
    "requests without a digest",
    select(
        interactions.c.id, interactions.c.project_id, interactions.c.previous_id, recordings.c.interaction_id
    )
    .select_from(interactions.outerjoin(recordings, recordings.c.interaction_id == interactions.c.id))
    .where(interactions.c.id > bindparam("after", type_=Key), interactions.c.erased_at.is_(None))
    .order_by(interactions.c.id)
    .limit(PAGE),
)
DIGEST = Query("digest of a request", select(recordings.c.digest).where(recordings.c.interaction_id == _ID))
#: The first answer to a request, so that it stays the same however often that is asked again; if there is one that was
#: streamed, for whoever wants a stream, or one that was not for anybody else.
RECORDED = Query(
    "recorded answer",
    select(interactions.c.id)
    .select_from(recordings.join(interactions, interactions.c.id == recordings.c.interaction_id))
    .where(
        recordings.c.digest == bindparam("digest", type_=LargeBinary),
        interactions.c.project_id == _PROJECT,
        interactions.c.deleted_at.is_(None),
        interactions.c.completed_at.is_not(None),
        interactions.c.http_status < literal_column("300"),
        or_(*(interactions.c.status == status for status in _ANSWERED)),
    )
    .order_by(
        case((interactions.c.stream == bindparam("stream", type_=Boolean), 0), else_=1),
        interactions.c.id,
    )
    .limit(1),
)
