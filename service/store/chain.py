"""A chain, from one of its interactions to the root, in one query whatever its depth.

Each is less deep than the one before, so that the walk ends whatever the rows say: keys tell nothing of it, because
processes have clocks of their own. The walk takes along what is told of a link, so each is looked up once, and both its
bodies with one more look. It also adds up their sizes, and leaves out the bodies from where they are too many to be
held in memory at once. The database sorts the rows, which looks them all up before the first is handed over: SQLite's
driver gives up the interpreter lock for each row, and one that is ready is there before a busy event loop has taken the
lock.

A request that is stored without what others have (:mod:`service.store.inputs`) comes with its parts in further rows of
the same query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    SmallInteger,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
    union_all,
)

from service.store.codec import Codec
from service.store.inputs import stored_requests
from service.store.records import Link
from service.store.regions import SHARED_FROM, whole_requests
from service.store.statement import Query
from service.store.tables import (
    REQUEST_PAYLOAD,
    RESPONSE_PAYLOAD,
    Key,
    inputs,
    interactions,
    payloads,
)

#: Places in a row of the query.
_DISTANCE, _REQUEST_BYTES, _TOTAL, _KIND, _CODEC, _SIZE, _BODY = 1, 7, 8, 9, 10, 11, 12
#: In the place of distance and total: the row is no link, but a request that is stored in parts, or a part of one.
_NO_LINK: Final = -1
#: What such a row tells of how they belong together.
_SHARING: Final = [
    inputs.c.digest,
    inputs.c.start,
    inputs.c.size.label("region_size"),
    inputs.c.base_id,
]
_NONE: Final = literal_column(str(_NO_LINK), BigInteger)
_REQUEST: Final = literal_column(str(REQUEST_PAYLOAD), SmallInteger)
_RESPONSE: Final = literal_column(str(RESPONSE_PAYLOAD), SmallInteger)
_MOST: Final = bindparam("most", type_=BigInteger)
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


def _walk() -> CTE:
    """The links, newest first."""
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
    return walk.union_all(
        select(
            above.c.id,
            walk.c.distance + 1,
            above.c.previous_id,
            above.c.depth,
            *_told(above),
            walk.c.total + _size(above),
        ).where(above.c.id == walk.c.previous_id, above.c.depth < walk.c.depth)
    )


def _chain() -> Executable:
    walk = _walk()
    parts = _parts(walk)
    members = [column for column in walk.c if column.name not in ("previous_id", "depth")]
    named = union_all(
        select(*members, _RESPONSE.label("kinds"), *_nothing(_SHARING)),
        select(
            parts.c.interaction_id,
            _NONE,
            *_nothing(members[2:-1]),
            _NONE,
            _REQUEST,
            *(parts.c[column.name] for column in _SHARING),
        ).where(parts.c.interaction_id.is_not(None)),
    ).subquery("named")
    bodies = and_(
        payloads.c.interaction_id == named.c.id,
        payloads.c.kind.between(_REQUEST, named.c.kinds),
        named.c.total <= _MOST,
    )
    body = [payloads.c.kind, payloads.c.codec, payloads.c.size, payloads.c.body]
    told = [named.c[column.name] for column in members]
    return (
        select(*told, *body, *(named.c[column.name] for column in _SHARING))
        .select_from(named.outerjoin(payloads, bodies))
        .order_by(named.c.distance.desc())
    )


def _parts(walk: CTE) -> CTE:
    """Which requests of the chain are stored without what others have, and those others; besides, a row of nothing.

    A request that is too short for that is not even looked up. Outer joins, because PostgreSQL might begin any other
    with all of ``inputs``.
    """
    row = [inputs.c.interaction_id, *_SHARING]
    shares = and_(inputs.c.interaction_id == walk.c.id, inputs.c.base_id.is_not(None))
    start = (
        select(*row)
        .select_from(walk.outerjoin(inputs, shares))
        .where(
            walk.c.request_bytes >= literal_column(str(SHARED_FROM), BigInteger),
            walk.c.total <= _MOST,
        )
    )
    parts = start.cte("parts", recursive=True)
    base = inputs.c.interaction_id == parts.c.base_id
    # Not UNION ALL: what many build on comes once, and a walk through damaged rows ends.
    return parts.union(select(*row).select_from(parts.outerjoin(inputs, base)))


def _nothing(columns: Iterable[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    return [cast(null(), column.type).label(column.name) for column in columns]


CHAIN = Query("walk a chain to its root", _chain())


def bytes_of(rows: Sequence[Sequence[Any]]) -> int:
    """How many bytes the bodies of a whole chain have, those that were left out included."""
    return max((row[_TOTAL] for row in rows), default=0)


def links_of(project_id: bytes, rows: Sequence[Sequence[Any]], codec: Codec) -> list[Link]:
    """The links of the rows of :data:`CHAIN`, oldest first, with whole requests.

    Raises :class:`~service.errors.StoreError` for a body that is damaged, and naming a request that cannot be made
    whole.
    """
    told = [row for row in rows if row[_DISTANCE] != _NO_LINK]
    whole = _whole_requests(project_id, told, rows[len(told) :], codec)
    bodies = iter(codec.unpack_all([_body(row) for row in told if _is_whole(row)]))
    links: list[Link] = []
    request: bytes | None = None
    response: bytes | None = None
    for place, row in enumerate(told):
        key, distance, status, agent, deleted, created_at, deployment_id, _, _, kind = row[:_CODEC]
        if kind == RESPONSE_PAYLOAD:
            response = next(bodies)
        elif kind == REQUEST_PAYLOAD:
            request = next(bodies) if _is_whole(row) else whole.get(key)
        if place + 1 == len(told) or told[place + 1][_DISTANCE] != distance:
            links.append(
                Link(key, status, agent, bool(deleted), created_at, deployment_id, request, response)
            )
            request = response = None
    return links


def _whole_requests(
    project_id: bytes, told: Sequence[Sequence[Any]], others: Sequence[Sequence[Any]], codec: Codec
) -> dict[bytes, bytes]:
    """The requests of the chain that are stored without what others have."""
    if not others:
        return {}
    rows = [(row[0], project_id, *row[_BODY + 1 :], *_body(row)) for row in others if row[_BODY] is not None]
    wanted = [row[0] for row in told if row[_KIND] == REQUEST_PAYLOAD and not _is_whole(row)]
    return whole_requests(stored_requests(rows, codec), wanted)


def _body(row: Sequence[Any]) -> tuple[int, int, bytes]:
    codec, size, body = row[_CODEC], row[_SIZE], row[_BODY]
    return codec, size, body


def _is_whole(row: Sequence[Any]) -> bool:
    kind: int | None = row[_KIND]
    return kind == RESPONSE_PAYLOAD or (kind == REQUEST_PAYLOAD and row[_SIZE] >= row[_REQUEST_BYTES])
