"""What reconciliation reads: interactions a page at a time, their logs, and rows that belong to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Table,
    Text,
    bindparam,
    case,
    exists,
    literal_column,
    or_,
    select,
    tuple_,
)

from service.store.clock import Clock
from service.store.statement import Query
from service.store.tables import (
    RESPONSE_PAYLOAD,
    Key,
    events,
    interactions,
    leases,
    payloads,
    webhooks,
)

#: Interactions, and batches of events, that are read at a time.
PAGE: Final = 1_000
BATCHES: Final = 64
#: Rows without an interaction that are named at most, for each table.
MOST_ORPHANS: Final = 500

_ONE = literal_column("1", BigInteger)
_FROM = bindparam("first", type_=Key)
_TO = bindparam("last", type_=Key)


@dataclass(frozen=True, slots=True)
class Row:
    """One interaction as reconciliation looks at it."""

    id: bytes
    stream: bool
    background: bool
    status: str
    http_status: int | None
    attempts: list[dict[str, Any]]
    usage_state: int
    updated_at: int
    completed_at: int | None
    deleted_at: int | None
    has_response: bool
    owned: bool
    #: Webhooks that no outcome has made due.
    unannounced: bool

    @property
    def answered(self) -> bool:
        """Whether upstream took an attempt."""
        return any(attempt.get("status") == 200 for attempt in self.attempts)

    @property
    def adopted(self) -> bool:
        """Whether it was made elsewhere and taken in as a whole."""
        return any("adopted" in attempt for attempt in self.attempts)


def row_of(values: Any) -> Row:
    """A row of :func:`rows_query`."""
    key, stream, background, status, http_status, attempts, *rest = values
    usage_state, updated_at, completed_at, deleted_at, response, owned, unannounced = rest
    made = orjson.loads(attempts) if attempts else []
    return Row(
        key,
        bool(stream),
        bool(background),
        status,
        http_status,
        made,
        usage_state,
        updated_at,
        completed_at,
        deleted_at,
        bool(response),
        bool(owned),
        bool(unannounced),
    )


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _rows(*scope: ColumnElement[bool]) -> Select[Any]:
    response = select(_ONE).where(
        payloads.c.interaction_id == interactions.c.id,
        payloads.c.kind == literal_column(str(RESPONSE_PAYLOAD), BigInteger),
    )
    owner = select(_ONE).where(
        leases.c.interaction_id == interactions.c.owner_id,
        leases.c.kind == literal_column("'process'", Text),
        leases.c.due_at > Clock(),
    )
    waiting = select(_ONE).where(
        webhooks.c.interaction_id == interactions.c.id,
        webhooks.c.due_at.is_(None),
        webhooks.c.settled_at.is_(None),
    )
    table = interactions.c
    return (
        select(
            table.id,
            table.stream,
            table.background,
            table.status,
            table.http_status,
            table.attempts,
            table.usage_state,
            table.updated_at,
            table.completed_at,
            table.deleted_at,
            _flag(exists(response)),
            _flag(exists(owner)),
            _flag(exists(waiting)),
        )
        .where(table.id > _FROM, table.id < _TO, *scope)
        .order_by(table.id)
        .limit(PAGE)
    )


_PROJECT = interactions.c.project_id == bindparam("project_id", type_=Key)

#: Interactions between two keys, a page in the order of keys: all, or those of a project.
ROWS: Final = Query("reconcile interactions", _rows())
ROWS_OF_PROJECT: Final = Query("reconcile interactions of a project", _rows(_PROJECT))

#: The log between two keys, a page in order, behind a batch of one of them.
BATCHES_BETWEEN: Final = Query(
    "reconcile events",
    select(
        events.c.interaction_id,
        events.c.first_seq,
        events.c.last_seq,
        events.c.codec,
        events.c.size,
        events.c.body,
    )
    .where(
        events.c.interaction_id >= _FROM,
        events.c.interaction_id <= _TO,
        or_(
            events.c.interaction_id > bindparam("behind", type_=Key),
            tuple_(events.c.interaction_id, events.c.first_seq)
            > tuple_(bindparam("behind", type_=Key), bindparam("behind_seq", type_=BigInteger)),
        ),
    )
    .order_by(events.c.interaction_id, events.c.first_seq)
    .limit(BATCHES),
)


def _orphans(table: Table) -> Query:
    there = select(_ONE).where(interactions.c.id == table.c.interaction_id)
    return Query(
        f"reconcile {table.name} of nothing",
        select(table.c.interaction_id)
        .where(table.c.interaction_id > _FROM, table.c.interaction_id < _TO, ~exists(there))
        .order_by(table.c.interaction_id)
        .limit(MOST_ORPHANS),
    )


#: Rows whose interaction is missing, by table.
ORPHANS: Final = {table.name: _orphans(table) for table in (payloads, events, webhooks)}

#: Deliveries that should have been tried long ago.
OVERDUE: Final = Query(
    "reconcile webhooks",
    select(webhooks.c.interaction_id, interactions.c.project_id, webhooks.c.uri, webhooks.c.tries)
    .select_from(webhooks.join(interactions, interactions.c.id == webhooks.c.interaction_id))
    .where(
        webhooks.c.interaction_id > _FROM,
        webhooks.c.interaction_id < _TO,
        webhooks.c.due_at < bindparam("overdue", type_=BigInteger),
    )
    .order_by(webhooks.c.interaction_id, webhooks.c.place),
)
