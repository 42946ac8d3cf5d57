"""Room for the bodies of imports: a line has an interaction's request, and what else belongs to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from service.api.endpoint import too_large
from service.api.keys import LARGE_IMPORT
from service.errors import RequestTimeout, ServiceUnavailable

#: How many times as large as other bodies one may be: beside the request a line has the response, the events and media
#: in base64.
TIMES: Final = 4
#: Seconds that one waits for another one, and that one may take to arrive.
_PATIENCE: Final = 10.0
_LONGEST: Final = 600.0


@asynccontextmanager
async def room_for(request: web.Request) -> AsyncIterator[asyncio.Timeout]:
    """Let a body be that large if its length is declared, one at a time: it is in memory as a whole.

    What is given bounds how long it may take to arrive. Raises :class:`~service.errors.PayloadTooLarge`,
    :class:`~service.errors.ServiceUnavailable` when another one takes long, and
    :class:`~service.errors.RequestTimeout`.
    """
    usual, size = request._client_max_size, request.content_length or 0
    if not usual or size <= usual:
        async with asyncio.timeout(None) as arriving:
            yield arriving
        return
    request._client_max_size = usual * TIMES
    if size > request._client_max_size:
        raise too_large(request)
    place = request.app[LARGE_IMPORT]
    try:
        async with asyncio.timeout(_PATIENCE):
            await place.acquire()
    except TimeoutError as error:
        raise ServiceUnavailable(
            "Another large import is being taken in; try again.", retry_after=_PATIENCE
        ) from error
    arriving = asyncio.timeout(_LONGEST)
    try:
        async with arriving:
            yield arriving
    except TimeoutError as error:
        if not arriving.expired():
            raise
        raise RequestTimeout(f"The body has not arrived within {_LONGEST:g} seconds.") from error
    finally:
        place.release()
