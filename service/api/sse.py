"""Streams on the wire: headers that no proxy buffers, keep-alives, an end that cannot be mistaken (contract 4.8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiohttp import web

from service.api.endpoint import response_headers
from service.interactions.calls import HistoryUsed
from service.interactions.feed import Event, Feed
from service.interactions.render import terminal_event_with_both
from service.wire import ids, sse
from service.wire.legacy_stream import LegacyStream
from service.wire.revision import Revision

_STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
#: Seconds of silence after which a comment keeps proxies from closing the connection.
_KEEP_ALIVE: Final = 15.0
#: Seconds after which a client that reads nothing is given up; what it missed is in the store.
_STALLED: Final = 300.0
#: Stored events are written in pieces of about this size.
_PIECE: Final = 64 * 1024


async def send_feed(request: web.Request, feed: Feed, revision: Revision) -> web.StreamResponse:
    """Follow a running interaction; a client that leaves, or stops reading, ends only this."""
    frames = _translator(feed, revision)
    batches = feed.batches(_KEEP_ALIVE)
    nothing: list[Event] = []
    first = await anext(batches, nothing)
    response = await _open(request, ids.to_text(feed.key), feed.upstream_id, feed.history)
    try:
        await _write(response, b"".join(map(frames, first)))
        async for batch in batches:
            await _write(response, b"".join(map(frames, batch)) if batch else sse.KEEP_ALIVE)
        if feed.broken:
            _break_off(request)
        else:
            await response.write(sse.DONE)
            await response.write_eof()
    except (ConnectionError, TimeoutError):
        _give_up(request)
    return response


async def send_events(
    request: web.Request, events: Iterable[dict[str, Any]], interaction_id: str, upstream_id: str | None
) -> web.StreamResponse:
    """Send the events of a finished interaction."""
    response = await _open(request, interaction_id, upstream_id)
    piece = bytearray()
    try:
        for event in events:
            piece += sse.frame(event)
            if len(piece) > _PIECE:
                await _write(response, bytes(piece))
                piece.clear()
        await _write(response, bytes(piece) + sse.DONE)
        await response.write_eof()
    except (ConnectionError, TimeoutError):
        _give_up(request)
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    if data:
        async with asyncio.timeout(_STALLED):
            await response.write(data)


async def _open(
    request: web.Request, interaction_id: str, upstream_id: str | None, history: HistoryUsed | None = None
) -> web.StreamResponse:
    headers = response_headers(request, interaction_id, upstream_id, history) | _STREAM_HEADERS
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    return response


def _break_off(request: web.Request) -> None:
    """End the chunked body without its last chunk, after what was written: every client takes that for a loss."""
    if request.transport is not None:
        request.transport.close()


def _give_up(request: web.Request) -> None:
    """Drop a connection that takes nothing more."""
    if request.transport is not None:
        request.transport.abort()


def _translator(feed: Feed, revision: Revision) -> Callable[[Event], bytes]:
    if revision is Revision.LEGACY:
        legacy = LegacyStream()
        return lambda event: b"".join(sse.frame(made) for made in legacy.feed(event.body))
    if revision is Revision.EITHER:
        return lambda event: event.frame if event is not feed.last else _with_both(feed, event)
    return lambda event: event.frame


def _with_both(feed: Feed, event: Event) -> bytes:
    both = terminal_event_with_both(event.body, feed.steps)
    return event.frame if both is event.body else sse.frame(both)
