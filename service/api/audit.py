"""Audit: what was asked and answered, as lists and one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from service.api.endpoint import answer, check_parameters
from service.api.keys import AUTHENTICATOR, DETAILS, LIFECYCLE, LISTING
from service.audit import filters
from service.audit.details import DEFAULT_EVENTS, LARGEST_EVENTS
from service.audit.filters import Filters
from service.audit.listing import DEFAULT_LIMIT, LARGEST_LIMIT
from service.audit.wanted import Order
from service.errors import InvalidRequest
from service.wire import codec, ids

_ORDERS: Final[Mapping[str, Order]] = {"desc": "desc", "asc": "asc", "rank": "rank"}


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
    if not (value.isascii() and value.isdigit() and len(value) < 9 and 1 <= int(value) <= largest):
        raise InvalidRequest(
            f"The value is invalid for 'limit'. Expected a number from 1 to {largest}, got {value[:50]!r}."
        )
    return int(value)


def _order(value: str) -> Order:
    order = _ORDERS.get(value.lower())
    if order is None:
        raise InvalidRequest(
            f"The value is invalid for 'order'. Expected desc, asc or rank, got {value[:50]!r}."
        )
    return order


async def get_interaction(request: web.Request) -> web.StreamResponse:
    """``GET /api/interactions/{id}``: everything that is stored of one."""
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    told = await request.app[DETAILS].interaction(principal.project_id, request.match_info["id"])
    return answer(request, codec.dumps(told), interaction_id=told["id"])


async def delete_interaction(request: web.Request) -> web.StreamResponse:
    """``DELETE /api/interactions/{id}``: as the resource itself is deleted, also what was recorded for audit only."""
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    record = await request.app[LIFECYCLE].delete(principal, request.match_info["id"], recorded=True)
    return answer(request, b"{}", interaction_id=ids.to_text(record.id), upstream_id=record.upstream_id)


async def get_chain(request: web.Request) -> web.StreamResponse:
    """``GET /api/interactions/{id}/chain``: the conversation around one."""
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    told = await request.app[DETAILS].chain(principal.project_id, request.match_info["id"])
    return answer(request, codec.dumps(told), interaction_id=told["interaction"]["id"])


async def get_events(request: web.Request) -> web.StreamResponse:
    """``GET /api/interactions/{id}/events``: the recorded events of one that was streamed."""
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request, "after", "limit")
    told = await request.app[DETAILS].events(
        principal.project_id,
        request.match_info["id"],
        after=_number(request, "after", 0, 2**53),
        limit=limit_of(request.query.get("limit"), DEFAULT_EVENTS, LARGEST_EVENTS),
    )
    return answer(request, codec.dumps(told))


def _number(request: web.Request, name: str, default: int, largest: int) -> int:
    value = request.query.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 17 and int(value) <= largest):
        raise InvalidRequest(
            f"The value is invalid for {name!r}. Expected a number from 0 on, got {value[:50]!r}."
        )
    return int(value)
