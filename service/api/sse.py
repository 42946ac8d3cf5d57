"""Streams on the wire: headers that no proxy buffers, keep-alives, an end that cannot be mistaken (contract 4.8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import HttpVersion11, web

from service.api.endpoint import response_headers
from service.api.keys import KEEP_ALIVE
from service.api.telling import Teller, is_ending, teller_for
from service.errors import DeadlineExceeded, ServiceError
from service.interactions.listening import Listening
from service.store.kept_events import Event
from service.wire import ids, sse
from service.wire.revision import Revision

logger = logging.getLogger(__name__)

_STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
#: Seconds after which a client that reads nothing is given up; what it missed is in the log.
_STALLED: Final = 300.0
#: Bytes that may wait for a client before writing to it waits.
_UNSENT: Final = 32 * 1024
_OVER: Final = (
    "The time that this stream may take is over. The interaction goes on: GET it with 'stream=true'."
)
_TIME_IS_OVER: Final = sse.frame(
    {"event_type": "error", "error": {"code": DeadlineExceeded.code, "message": _OVER}}
)


async def send_events(
    request: web.Request,
    listening: Listening,
    revision: Revision,
    more_headers: Mapping[str, str] = MappingProxyType({}),
    *,
    limit: float | None = None,
) -> web.StreamResponse:
    """Follow an interaction to its end; a client that leaves, or stops reading, ends only this.

    After ``limit`` seconds the client is told that its time is over, and the interaction goes on without it.

    Raises :class:`~service.errors.InvalidRequest`, before anything is sent, when a legacy client's cursor is no part
    of an event.
    """
    teller = teller_for(listening, revision)
    direct = _Direct(request, teller)
    batches = listening.events(whole=teller.needs_all, idle=request.app[KEEP_ALIVE], sink=direct.once_open)
    ends_at = None if limit is None else asyncio.get_running_loop().time() + limit
    data = await _beginning_until(ends_at, listening, batches, teller)
    response = await _open(request, listening, more_headers, at_once=not data)
    try:
        await _write(response, data)
        # It would be held as long as the stream is open.
        del data
        direct.open(request.transport)
        if ends_at is None:
            await _follow(response, batches, teller)
        elif not await _follow_until(ends_at, response, batches, teller):
            await _write(response, _TIME_IS_OVER)
            _break_off(request)
            return response
        if listening.broken:
            await _write(response, listening.farewell)
            _break_off(request)
        else:
            await response.write(sse.DONE)
            await response.write_eof()
    except ServiceError as error:
        # Deleted meanwhile, or the log cannot be read: the answer has begun, so it can only be broken off.
        logger.info("a listener of %s was broken off: %s", ids.to_text(listening.key), error)
        _break_off(request)
    except (ConnectionError, TimeoutError):
        _give_up(request)
    return response


class _EventStream(web.StreamResponse):
    """aiohttp writes its head together with the first piece of its body: one packet and one system call less."""

    _send_headers_immediately = False


class _Direct:
    """Writes events to the client's connection when they are published; what does not fit is for the slow way.

    Half of what a stream's event costs is waking the tasks that hand it on, so where nothing has to wait none is.
    """

    __slots__ = ("_chunked", "_teller", "_transport")

    def __init__(self, request: web.Request, teller: Teller) -> None:
        self._teller = teller
        self._chunked = request.version >= HttpVersion11
        self._transport: asyncio.Transport | None = None

    def open(self, transport: asyncio.Transport | None) -> None:
        """The head and the first piece of the body are on their way."""
        self._transport = transport

    def once_open(self) -> _Direct | None:
        """This, when events may be written."""
        return None if self._transport is None else self

    def take(self, event: Event) -> bool:
        """Write an event, unless the client is slow or gone."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _UNSENT:
            return False
        if self._teller.grows and is_ending(event):
            # It may be far larger than what may wait for a client.
            return False
        data = self._teller.tell((event,))
        if data:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return True

    def idle(self) -> bool:
        """Keep proxies from closing a silent connection."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if not transport.get_write_buffer_size():
            data = sse.KEEP_ALIVE
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return True


async def _beginning_until(
    ends_at: float | None, listening: Listening, batches: AsyncIterator[list[Event]], teller: Teller
) -> bytes:
    """The same, if it comes in time; raises :class:`DeadlineExceeded` otherwise."""
    if ends_at is None:
        return await _beginning(listening, batches, teller)
    try:
        async with asyncio.timeout_at(ends_at):
            return await _beginning(listening, batches, teller)
    except TimeoutError:
        error = DeadlineExceeded(_OVER)
        error.interaction_id = ids.to_text(listening.key)
        raise error from None


async def _beginning(listening: Listening, batches: AsyncIterator[list[Event]], teller: Teller) -> bytes:
    """What is told before the headers can be sent: they tell upstream's id, and a cursor may yet be refused."""
    first = await _first(batches)
    if not first and listening.upstream_id is None:
        first = await _first(batches)
    data = teller.tell(first)
    while not teller.found and first:
        first = await _first(batches)
        data += teller.tell(first)
    return data


async def _first(batches: AsyncIterator[list[Event]]) -> list[Event]:
    nothing: list[Event] = []
    return await anext(batches, nothing)


async def _follow(response: web.StreamResponse, batches: AsyncIterator[list[Event]], teller: Teller) -> None:
    async for batch in batches:
        if not batch:
            await _write(response, sse.KEEP_ALIVE)
        elif teller.grows and is_ending(batch[-1]):
            await _write(response, teller.tell(batch[:-1]))
            await _write(response, teller.tell(batch[-1:]))
        else:
            await _write(response, teller.tell(batch))


async def _follow_until(
    ends_at: float, response: web.StreamResponse, batches: AsyncIterator[list[Event]], teller: Teller
) -> bool:
    """Follow to the end if that comes in time; whether it did."""
    patience = asyncio.timeout_at(ends_at)
    try:
        async with patience:
            await _follow(response, batches, teller)
    except TimeoutError:
        if patience.expired():
            return False
        raise
    return True


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Write what others may be told as well, and keep no copy of more of it than may wait for the client."""
    for begin in range(0, len(data), _UNSENT):
        async with asyncio.timeout(_STALLED):
            await response.write(data[begin : begin + _UNSENT])


async def _open(
    request: web.Request, listening: Listening, more_headers: Mapping[str, str], *, at_once: bool
) -> web.StreamResponse:
    """Begin the answer; its head leaves with the first piece of its body, or ``at_once``."""
    headers = response_headers(
        request,
        ids.to_text(listening.key),
        listening.upstream_id,
        listening.history,
        listening.served,
        replayed=listening.replayed,
    )
    response = _EventStream(headers={**headers, **_STREAM_HEADERS, **more_headers})
    writer = await response.prepare(request)
    if at_once and writer is not None:
        writer.send_headers()
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
