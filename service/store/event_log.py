"""The event log: the events of a stream as clients get them, in batches numbered by the *seq* of their events.

A batch is written while its interaction is open, and its key is the seq it begins with. So of two processes that tell
the same interaction's rest one is heard: what the other begins at the same place is left out. The last batch is
committed together with the outcome, so an interaction that was streamed and has ended has its whole log.

Only the process that holds an interaction adds to its log. A wish to cancel what another process holds is a note of the
kind ``cancel`` in ``leases``.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    Text,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy.sql.dml import Insert

from service.store.statement import BatchStatement, Particulars, Query, columns_of, key_parameters
from service.store.tables import Key, events, interactions, leases

#: Batches that are read at a time.
PAGE: Final = 64
_MOST_WISHES: Final = 500
# Constants of the text, so that a batch statement's only parameters are its rows.
_CANCEL = literal_column("'cancel'", Text)
_NONE = literal_column("0", BigInteger)


def _insert_events(rows: FromClause, database: Particulars) -> Executable:
    chosen = (
        select(*(rows.c[name] for name in _NAMES))
        .select_from(rows.join(interactions, interactions.c.id == rows.c.interaction_id))
        .where(
            interactions.c.owner_id == rows.c.owner_id,
            interactions.c.completed_at.is_(None),
            # What is deleted and kept has a log as long as it runs: a follow-up may go on from a checkpoint in it.
            interactions.c.erased_at.is_(None),
        )
        # Nobody takes the interaction over or erases it meanwhile, or this sees that somebody has.
        .with_for_update(of=interactions, read=True)
    )
    statement: Insert = database.insert(events).from_select(_NAMES, chosen).on_conflict_do_nothing()
    return statement


def _insert_last_events(rows: FromClause, database: Particulars) -> Executable:
    chosen = select(*(rows.c[name] for name in _NAMES)).where(database.takes_events(rows).exists())
    statement: Insert = database.insert(events).from_select(_NAMES, chosen).on_conflict_do_nothing()
    return statement


def _trim(rows: FromClause, database: Particulars) -> Executable:
    behind = (
        select(literal_column("1"))
        .select_from(rows.join(interactions, interactions.c.id == rows.c.interaction_id))
        .where(
            rows.c.interaction_id == events.c.interaction_id,
            rows.c.last_seq < events.c.first_seq,
            interactions.c.owner_id == rows.c.owner_id,
            interactions.c.completed_at.is_(None),
        )
        .correlate(events)
        .exists()
    )
    return delete(events).where(events.c.interaction_id.in_(select(rows.c.interaction_id)), behind)


def _is_open(key: ColumnElement[bytes]) -> ColumnElement[bool]:
    return exists(
        select(literal_column("1")).where(interactions.c.id == key, interactions.c.completed_at.is_(None))
    )


def _wish(rows: FromClause, database: Particulars) -> Executable:
    names = ["interaction_id", "kind", "due_at", "tries"]
    chosen = select(rows.c.interaction_id, _CANCEL, rows.c.due_at, _NONE).where(
        _is_open(rows.c.interaction_id)
    )
    statement: Insert = database.insert(leases).from_select(names, chosen).on_conflict_do_nothing()
    return statement


def _forget_wishes(rows: FromClause, database: Particulars) -> Executable:
    takes = database.takes_outcome(rows).exists()
    ended = select(rows.c.interaction_id).where(takes)
    return delete(leases).where(leases.c.interaction_id.in_(ended), leases.c.kind == _CANCEL)


_BATCH = (
    *columns_of(events, "interaction_id codec size body first_seq last_seq upstream_cursor timings"),
    *columns_of(interactions, "owner_id"),
)

_NAMES = [column.name for column in _BATCH if column.name != "owner_id"]

INSERT_EVENTS = BatchStatement("insert events", _BATCH, _insert_events, packs=True)
#: The same together with the outcome of the same interaction, which decides whether they are written.
INSERT_LAST_EVENTS = BatchStatement("insert last events", _BATCH, _insert_last_events, packs=True)
#: Drop what a process that died has left behind a gap: whoever goes on tells it again, from the gap on.
TRIM_EVENTS = BatchStatement(
    "trim events",
    (*columns_of(events, "interaction_id last_seq"), *columns_of(interactions, "owner_id")),
    _trim,
)
WISH_CANCEL = BatchStatement("wish cancel", columns_of(leases, "interaction_id due_at"), _wish)
#: There is nothing to cancel any more. Written only together with the outcome of the same interaction.
FORGET_WISHES = BatchStatement(
    "forget wishes", (Column("interaction_id", Key), *columns_of(interactions, "owner_id")), _forget_wishes
)

#: The writes of this module that stand in a batch after the intents and before the outcomes.
LOGGING: Final = (TRIM_EVENTS, INSERT_EVENTS, INSERT_LAST_EVENTS, WISH_CANCEL)

_ID = bindparam("id", type_=Key)
_AFTER = bindparam("after", type_=BigInteger)


def _events_after(*, hidden: bool) -> Executable:
    """What follows an event, from the batch that holds the next one on; one row without a batch when there is none.

    With ``hidden`` also of what is deleted and kept.
    """
    inner = events.alias("begun")
    begun = (
        select(func.max(inner.c.first_seq))
        .where(inner.c.interaction_id == _ID, inner.c.first_seq <= _AFTER + literal_column("1", BigInteger))
        .scalar_subquery()
    )
    following = and_(
        events.c.interaction_id == _ID,
        events.c.first_seq >= func.coalesce(begun, _NONE),
        events.c.last_seq > _AFTER,
    )
    return (
        select(
            interactions.c.completed_at,
            events.c.first_seq,
            events.c.last_seq,
            events.c.codec,
            events.c.size,
            events.c.body,
        )
        .select_from(interactions.outerjoin(events, following))
        .where(interactions.c.id == _ID, *(() if hidden else (interactions.c.deleted_at.is_(None),)))
        .order_by(events.c.first_seq)
        .limit(PAGE)
    )


EVENTS_AFTER = Query("events after", _events_after(hidden=False))
KEPT_EVENTS_AFTER = Query("kept events after", _events_after(hidden=True))


@cache
def logs_of(count: int) -> Query:
    """The whole logs of so many interactions, also of what is deleted and kept; an empty one is a row without a
    batch.
    """
    return Query(
        f"logs of {count}",
        select(
            interactions.c.id,
            interactions.c.completed_at,
            events.c.first_seq,
            events.c.last_seq,
            events.c.codec,
            events.c.size,
            events.c.body,
        )
        .select_from(interactions.outerjoin(events, events.c.interaction_id == interactions.c.id))
        .where(interactions.c.id.in_(key_parameters(count)))
        .order_by(interactions.c.id, events.c.first_seq),
    )


LAST_BATCH = Query(
    "last batch of events",
    select(events.c.last_seq, events.c.upstream_cursor)
    .where(events.c.interaction_id == _ID)
    .order_by(events.c.first_seq.desc())
    .limit(1),
)
TIMINGS = Query(
    "times of events",
    select(events.c.first_seq, events.c.last_seq, events.c.timings)
    .where(events.c.interaction_id == _ID)
    .order_by(events.c.first_seq),
)
CANCEL_WISHES = Query(
    "interactions to be cancelled",
    select(leases.c.interaction_id)
    .where(leases.c.kind == _CANCEL, _is_open(leases.c.interaction_id))
    .limit(_MOST_WISHES),
)
#: Forget wishes that came too late: what they are about has ended.
FORGET_VAIN_WISHES = Query(
    "forget vain wishes",
    delete(leases)
    .where(leases.c.kind == _CANCEL, not_(_is_open(leases.c.interaction_id)))
    .returning(leases.c.interaction_id),
)
