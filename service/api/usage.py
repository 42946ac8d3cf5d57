"""Usage: tokens, requests, errors, cost and times, by whatever they can be grouped by."""

from __future__ import annotations

from aiohttp import web

from service.api.endpoint import answer
from service.api.keys import AUTHENTICATOR, USAGE
from service.audit import usage_request
from service.wire import codec


async def usage(request: web.Request) -> web.StreamResponse:
    """``GET /api/usage``."""
    principal = request.app[AUTHENTICATOR].principal(request)
    asked = usage_request.parse((name, value) for name, value in request.query.items() if name != "key")
    report = await request.app[USAGE].report(principal.project_id, asked.filters, asked.grouping, asked.zone)
    return answer(request, codec.dumps(usage_request.told(asked, report)))
