"""Audit: what was asked and answered, as lists and one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from service.api.endpoint import answer
from service.api.keys import AUTHENTICATOR, LISTING
from service.audit import filters
from service.audit.filters import Filters
from service.audit.listing import DEFAULT_LIMIT, LARGEST_LIMIT
from service.audit.paging import Order
from service.errors import InvalidRequest
from service.wire import codec

_ORDERS: Final[Mapping[str, Order]] = {"desc": "desc", "asc": "asc"}


async def list_interactions(request: web.Request) -> web.StreamResponse:
    """``GET /api/interactions``: a page of those that the filters mean, without bodies."""
    principal = request.app[AUTHENTICATOR].principal(request)
    chosen, rest = query_filters(request, "order", "limit", "cursor")
    found, next_cursor = await request.app[LISTING].summaries(
        principal.project_id,
        chosen,
        order=_order(rest.get("order", "desc")),
        limit=limit_of(rest.get("limit"), DEFAULT_LIMIT, LARGEST_LIMIT),
        cursor=rest.get("cursor"),
    )
    return answer(request, codec.dumps({"interactions": found, "next_cursor": next_cursor}))


def query_filters(request: web.Request, *others: str) -> tuple[Filters, dict[str, str]]:
    """The filters of a request, and its other parameters; the service's key may be one of them (contract 1.3)."""
    given = [(name, value) for name, value in request.query.items() if name != "key"]
    return filters.parse(given, others=others)


def limit_of(value: str | None, default: int, largest: int) -> int:
    """How many a page may hold; raises :class:`InvalidRequest`."""
    if value is None:
        return default
    if not (value.isascii() and value.isdigit()) or not 1 <= int(value[:9]) <= largest:
        raise InvalidRequest(
            f"The value is invalid for 'limit'. Expected a number from 1 to {largest}, got {value[:50]!r}."
        )
    return int(value)


def _order(value: str) -> Order:
    order = _ORDERS.get(value.lower())
    if order is None:
        raise InvalidRequest(f"The value is invalid for 'order'. Expected desc or asc, got {value[:50]!r}.")
    return order
