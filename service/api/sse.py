"""Streams on the wire: headers that no proxy buffers, keep-alives, an end that cannot be mistaken (contract 4.8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import web

from service.api.endpoint import response_headers
from service.api.telling import Teller, teller_for
from service.errors import NotFound
from service.interactions.listening import Listening
from service.store.kept_events import Event
from service.wire import ids, sse
from service.wire.revision import Revision

_STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
#: Seconds of silence after which a comment keeps proxies from closing the connection.
_KEEP_ALIVE: Final = 15.0
#: Seconds after which a client that reads nothing is given up; what it missed is in the log.
_STALLED: Final = 300.0
#: Bytes that may wait for a client before writing to it waits.
_UNSENT: Final = 32 * 1024


async def send_events(
    request: web.Request,
    listening: Listening,
    revision: Revision,
    more_headers: Mapping[str, str] = MappingProxyType({}),
) -> web.StreamResponse:
    """Follow an interaction to its end; a client that leaves, or stops reading, ends only this.

    Raises :class:`~service.errors.InvalidRequest`, before anything is sent, when a legacy client's cursor is no part
    of an event.
    """
    teller = teller_for(listening, revision)
    batches = listening.events(whole=teller.needs_all, idle=_KEEP_ALIVE)
    first = await _first(batches)
    data = teller.tell(first)
    while not teller.found and first:
        first = await _first(batches)
        data += teller.tell(first)
    response = await _open(request, listening, more_headers)
    try:
        await _write(response, data)
        await _follow(response, batches, teller)
        if listening.broken:
            await _write(response, listening.farewell)
            _break_off(request)
        else:
            await response.write(sse.DONE)
            await response.write_eof()
    except NotFound:
        _break_off(request)
    except (ConnectionError, TimeoutError):
        _give_up(request)
    return response


async def _first(batches: AsyncIterator[list[Event]]) -> list[Event]:
    nothing: list[Event] = []
    return await anext(batches, nothing)


async def _follow(response: web.StreamResponse, batches: AsyncIterator[list[Event]], teller: Teller) -> None:
    async for batch in batches:
        await _write(response, teller.tell(batch) if batch else sse.KEEP_ALIVE)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    if data:
        async with asyncio.timeout(_STALLED):
            await response.write(data)


async def _open(
    request: web.Request, listening: Listening, more_headers: Mapping[str, str]
) -> web.StreamResponse:
    headers = response_headers(request, ids.to_text(listening.key), listening.upstream_id, listening.history)
    response = web.StreamResponse(headers={**headers, **_STREAM_HEADERS, **more_headers})
    await response.prepare(request)
    if request.transport is not None:
        request.transport.set_write_buffer_limits(high=_UNSENT)
    return response


def _break_off(request: web.Request) -> None:
    """End the chunked body without its last chunk, after what was written: every client takes that for a loss."""
    if request.transport is not None:
        request.transport.close()


def _give_up(request: web.Request) -> None:
    """Drop a connection that takes nothing more."""
    if request.transport is not None:
        request.transport.abort()
