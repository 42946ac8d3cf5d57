"""A chain, from one of its interactions to the root, in one query whatever its depth.

The walk takes along what is told of a link, so each is looked up once, and both its bodies with one more look. The rows
come in no order, because sorting them in the database would copy the bodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import BigInteger, Executable, FromClause, bindparam, case, literal, select

from service.store.codec import Codec
from service.store.records import Link
from service.store.statement import Query
from service.store.tables import REQUEST_PAYLOAD, RESPONSE_PAYLOAD, Key, interactions, payloads

_DISTANCE: Final = 1
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


def _chain() -> Executable:
    start = select(_KEY, literal(0, BigInteger).label("distance"), _PREVIOUS, *_told(interactions)).where(
        bindparam("id", type_=Key) == _KEY,
        interactions.c.project_id == bindparam("project_id", type_=Key),
    )
    walk = start.cte("chain", recursive=True)
    above = interactions.alias("above")
    walk = walk.union_all(
        select(above.c.id, walk.c.distance + 1, above.c.previous_id, *_told(above)).where(
            above.c.id == walk.c.previous_id
        )
    )
    bodies = (payloads.c.interaction_id == walk.c.id) & payloads.c.kind.between(
        REQUEST_PAYLOAD, RESPONSE_PAYLOAD
    )
    members = [column for column in walk.c if column.name != "previous_id"]
    body = [payloads.c.kind, payloads.c.codec, payloads.c.size, payloads.c.body]
    return select(*members, *body).select_from(walk.outerjoin(payloads, bodies))


CHAIN = Query("walk a chain to its root", _chain())


def shared_requests(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether a request of the chain is stored without what another one already has."""
    return any(row[8] == REQUEST_PAYLOAD and row[10] < row[7] for row in rows)


def links_of(rows: Sequence[Sequence[Any]], whole: Mapping[bytes, bytes], codec: Codec) -> list[Link]:
    """The links of the rows of :data:`CHAIN`, oldest first; ``whole`` has the requests that are stored in parts.

    Raises :class:`~service.errors.StoreError` for a body that is damaged.
    """
    links: list[Link] = []
    request: bytes | None = None
    response: bytes | None = None
    ordered = sorted(rows, key=itemgetter(_DISTANCE), reverse=True)
    for place, row in enumerate(ordered):
        (
            key,
            distance,
            status,
            agent,
            deleted,
            created_at,
            deployment_id,
            request_bytes,
            kind,
            number,
            size,
            body,
        ) = row
        if kind == RESPONSE_PAYLOAD:
            response = codec.unpack(number, size, body)
        elif kind == REQUEST_PAYLOAD:
            request = whole.get(key) if size < request_bytes else codec.unpack(number, size, body)
        if place + 1 == len(ordered) or ordered[place + 1][_DISTANCE] != distance:
            links.append(
                Link(key, status, agent, bool(deleted), created_at, deployment_id, request, response)
            )
            request = response = None
    return links
