"""Streams on the wire: headers that no proxy buffers, keep-alives, an end that cannot be mistaken (contract 4.8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
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
    response = _EventStream()
    client = _Client(request, response, teller)
    idle = request.app[KEEP_ALIVE]
    batches = listening.events(whole=teller.needs_all, idle=idle, sink=client.once_open)
    ends_at = None if limit is None else asyncio.get_running_loop().time() + limit
    data = await _beginning_until(ends_at, listening, batches, teller)
    await _open(request, response, listening, more_headers, at_once=not data)
    try:
        client.open()
        await client.write(data)
        # It would be held as long as the stream is open.
        del data
        following = _follow(client, batches, idle)
        if ends_at is None:
            await following
        elif not await _in_time(ends_at, following):
            await client.write(_TIME_IS_OVER)
            _break_off(request)
            return response
        if listening.broken:
            await client.write(listening.farewell)
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


class _Client:
    """The client's connection: events are written to it when they are published; what does not fit goes the slow way.

    Half of what a stream's event costs is waking the tasks that hand it on, so where nothing has to wait none is.
    """

    __slots__ = ("_chunked", "_loop", "_request", "_response", "_teller", "_transport", "told_at")

    def __init__(self, request: web.Request, response: web.StreamResponse, teller: Teller) -> None:
        self._request = request
        self._response = response
        self._teller = teller
        self._chunked = request.version >= HttpVersion11
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        #: The event loop's time at which it was last sent anything.
        self.told_at = self._loop.time()

    def open(self) -> None:
        """The answer has begun."""
        self._transport = self._request.transport

    def once_open(self) -> _Client | None:
        """This, when events may be written."""
        return None if self._transport is None else self

    def take(self, event: Event) -> bool:
        """Write an event, unless the client is slow or gone, or the event is more than may wait for it."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _UNSENT:
            return False
        if len(event.frame) > _UNSENT:
            return False
        if self._teller.grows and is_ending(event):
            # It may be far larger than what may wait for a client.
            return False
        data = self._teller.tell((event,))
        if data:
            self._send(transport, data)
        return True

    def idle(self) -> bool:
        """Keep proxies from closing a silent connection."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if not transport.get_write_buffer_size():
            self._send(transport, sse.KEEP_ALIVE)
        return True

    async def write(self, data: bytes) -> None:
        """Write what others may be told as well, and keep no copy of more of it than may wait for the client."""
        for begin in range(0, len(data), _UNSENT):
            async with asyncio.timeout(_STALLED):
                await self._response.write(data[begin : begin + _UNSENT])
            self.told_at = self._loop.time()

    async def write_batch(self, batch: list[Event]) -> None:
        """Write events together, but the one that ends the interaction alone where that is told as more than it is."""
        if batch and self._teller.grows and is_ending(batch[-1]):
            await self.write(self._teller.tell(batch[:-1]))
            await self.write(self._teller.tell(batch[-1:]))
        else:
            await self.write(self._teller.tell(batch))

    def silent_for(self, seconds: float) -> bool:
        """Whether it has been sent nothing for so long."""
        return self._loop.time() - self.told_at >= seconds

    def _send(self, transport: asyncio.Transport, data: bytes) -> None:
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self.told_at = self._loop.time()


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


async def _follow(client: _Client, batches: AsyncIterator[list[Event]], idle: float) -> None:
    async for batch in batches:
        await client.write_batch(batch)
        if not batch or client.silent_for(idle):
            await client.write(sse.KEEP_ALIVE)


async def _in_time(ends_at: float, following: Coroutine[None, None, None]) -> bool:
    """Follow to the end if that comes in time; whether it did."""
    patience = asyncio.timeout_at(ends_at)
    try:
        async with patience:
            await following
    except TimeoutError:
        if patience.expired():
            return False
        raise
    return True


async def _open(
    request: web.Request,
    response: web.StreamResponse,
    listening: Listening,
    more_headers: Mapping[str, str],
    *,
    at_once: bool,
) -> None:
    """Begin the answer; its head leaves with the first piece of its body, or ``at_once``."""
    headers = response_headers(
        request,
        ids.to_text(listening.key),
        listening.upstream_id,
        listening.history,
        listening.served,
        replayed=listening.replayed,
    )
    response.headers.update({**headers, **_STREAM_HEADERS, **more_headers})
    writer = await response.prepare(request)
    if at_once and writer is not None:
        writer.send_headers()
    if request.transport is not None:
        request.transport.set_write_buffer_limits(high=_UNSENT)


def _break_off(request: web.Request) -> None:
    """End the chunked body without its last chunk, after what was written: every client takes that for a loss."""
    if request.transport is not None:
        request.transport.close()


def _give_up(request: web.Request) -> None:
    """Drop a connection that takes nothing more."""
    if request.transport is not None:
        request.transport.abort()
