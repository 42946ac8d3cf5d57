"""A chain, from one of its interactions to the root, in one query whatever its depth.

Each is less deep than the one before, so that the walk ends whatever the rows say: keys tell nothing of it, because
processes have clocks of their own. The walk takes along what is told of a link, so each is looked up once, and both its
bodies with one more look. It also adds up their sizes, and leaves out the bodies from where they are too many to be
held in memory at once. The database sorts the rows, which looks them all up before the first is handed over: SQLite's
driver gives up the interpreter lock for each row, and one that is ready is there before a busy event loop has taken the
lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    select,
)

from service.store.codec import Codec
from service.store.records import Link
from service.store.statement import Query
from service.store.tables import REQUEST_PAYLOAD, RESPONSE_PAYLOAD, Key, interactions, payloads

#: Places in a row of the query.
_DISTANCE, _REQUEST_BYTES, _TOTAL, _KIND, _CODEC, _SIZE, _BODY = 1, 7, 8, 9, 10, 11, 12
_KEY, _PREVIOUS = interactions.c.id, interactions.c.previous_id


def _told(table: FromClause) -> list[Any]:
    return [
        table.c.status,
        table.c.agent,
        case((table.c.deleted_at.is_(None), 0), else_=1).label("deleted"),
        table.c.created_at,
        table.c.deployment_id,
        table.c.request_bytes,
    ]


def _size(table: FromClause) -> ColumnElement[int]:
    return table.c.request_bytes + func.coalesce(table.c.response_bytes, literal_column("0", BigInteger))


def _chain() -> Executable:
    start = select(
        _KEY,
        literal(0, BigInteger).label("distance"),
        _PREVIOUS,
        interactions.c.depth,
        *_told(interactions),
        _size(interactions).label("total"),
    ).where(
        bindparam("id", type_=Key) == _KEY,
        interactions.c.project_id == bindparam("project_id", type_=Key),
    )
    walk = start.cte("chain", recursive=True)
    above = interactions.alias("above")
    walk = walk.union_all(
        select(
            above.c.id,
            walk.c.distance + 1,
            above.c.previous_id,
            above.c.depth,
            *_told(above),
            walk.c.total + _size(above),
        ).where(above.c.id == walk.c.previous_id, above.c.depth < walk.c.depth)
    )
    bodies = and_(
        payloads.c.interaction_id == walk.c.id,
        payloads.c.kind.between(REQUEST_PAYLOAD, RESPONSE_PAYLOAD),
        walk.c.total <= bindparam("most", type_=BigInteger),
    )
    members = [column for column in walk.c if column.name not in ("previous_id", "depth")]
    body = [payloads.c.kind, payloads.c.codec, payloads.c.size, payloads.c.body]
    return (
        select(*members, *body).select_from(walk.outerjoin(payloads, bodies)).order_by(walk.c.distance.desc())
    )


CHAIN = Query("walk a chain to its root", _chain())


def bytes_of(rows: Sequence[Sequence[Any]]) -> int:
    """How many bytes the bodies of a whole chain have, those that were left out included."""
    return max((row[_TOTAL] for row in rows), default=0)


def shared_requests(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether a request of the chain is stored without what another one already has."""
    return any(row[_KIND] == REQUEST_PAYLOAD and not _is_whole(row) for row in rows)


def links_of(rows: Sequence[Sequence[Any]], whole: Mapping[bytes, bytes], codec: Codec) -> list[Link]:
    """The links of the rows of :data:`CHAIN`, oldest first; ``whole`` has the requests that are stored in parts.

    Raises :class:`~service.errors.StoreError` for a body that is damaged.
    """
    bodies = iter(codec.unpack_all([_body(row) for row in rows if _is_whole(row)]))
    links: list[Link] = []
    request: bytes | None = None
    response: bytes | None = None
    for place, row in enumerate(rows):
        key, distance, status, agent, deleted, created_at, deployment_id, _, _, kind, *_ = row
        if kind == RESPONSE_PAYLOAD:
            response = next(bodies)
        elif kind == REQUEST_PAYLOAD:
            request = next(bodies) if _is_whole(row) else whole.get(key)
        if place + 1 == len(rows) or rows[place + 1][_DISTANCE] != distance:
            links.append(
                Link(key, status, agent, bool(deleted), created_at, deployment_id, request, response)
            )
            request = response = None
    return links


def _body(row: Sequence[Any]) -> tuple[int, int, bytes]:
    codec, size, body = row[_CODEC], row[_SIZE], row[_BODY]
    return codec, size, body


def _is_whole(row: Sequence[Any]) -> bool:
    kind: int | None = row[_KIND]
    return kind == RESPONSE_PAYLOAD or (kind == REQUEST_PAYLOAD and row[_SIZE] >= row[_REQUEST_BYTES])
