"""``GET /openapi.json``: what this service can be asked."""

from __future__ import annotations

from functools import cache

import orjson
from aiohttp import web

from service.api.description import document
from service.api.endpoint import answer


async def openapi(request: web.Request) -> web.StreamResponse:
    """The description of every route; it is no secret."""
    return answer(request, _document())


@cache
def _document() -> bytes:
    return orjson.dumps(document())
