"""Whether the process lives and whether it can serve."""

from __future__ import annotations

from aiohttp import web

from service.api.endpoint import answer
from service.api.keys import STORE


async def live(request: web.Request) -> web.StreamResponse:
    """The process answers."""
    return answer(request, b'{"status":"live"}')


async def ready(request: web.Request) -> web.StreamResponse:
    """The store answers; 503 otherwise."""
    await request.app[STORE].probe()
    return answer(request, b'{"status":"ready"}')
