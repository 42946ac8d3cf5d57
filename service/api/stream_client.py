"""One client of a stream: what waits for it is bounded, silence is broken, and a loss does not look like the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from service.api import unchunked
from service.api.telling import Teller, is_ending
from service.store.kept_events import Event
from service.wire import sse

#: Seconds after which a client that reads nothing is given up; what it missed is in the log.
_STALLED: Final = 300.0
#: Bytes that may wait for a client before writing to it waits.
_UNSENT: Final = 32 * 1024
#: Seconds that the last words to a client have to reach it before its connection is reset.
_LAST_WORDS: Final = 0.5


class StreamClient:
    """The client's connection: events are written to it when they are published; what does not fit goes the slow way.

    Half of what a stream's event costs is waking the tasks that hand it on, so where nothing has to wait none is.
    """

    __slots__ = (
        "_chunked",
        "_loop",
        "_moved_at",
        "_request",
        "_response",
        "_teller",
        "_transport",
        "_unsent",
        "told_at",
        "whole",
    )

    def __init__(self, request: web.Request, response: web.StreamResponse, teller: Teller) -> None:
        self._request = request
        self._response = response
        self._teller = teller
        self._chunked = not unchunked.is_unchunked(request)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        #: Bytes that waited for it when it was last looked at, and since when it has been as many.
        self._unsent = 0
        self._moved_at = 0.0
        #: The event loop's time at which it was last sent anything.
        self.told_at = self._loop.time()
        #: Whether all that it was sent are whole events.
        self.whole = True

    def open(self) -> None:
        """The answer has begun."""
        self._transport = self._request.transport
        self._bound(_UNSENT)

    def once_open(self) -> StreamClient | None:
        """This, when events may be written."""
        return None if self._transport is None else self

    def take(self, seq: int, frame: bytes) -> bool:
        """Write an event, unless the client is slow or gone, or the event is more than may wait for it."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _UNSENT:
            return False
        if len(frame) > _UNSENT:
            return False
        if self._teller.is_verbatim:
            self._send(transport, frame)
            return True
        return self._tell(transport, (Event(seq, frame),))

    def take_all(self, events: Sequence[Event]) -> bool:
        """Write events that came together as :meth:`take` does each."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _UNSENT:
            return False
        if sum([len(event.frame) for event in events]) > _UNSENT:
            return False
        return self._tell(transport, events)

    def _tell(self, transport: asyncio.Transport, events: Sequence[Event]) -> bool:
        if self._teller.grows and is_ending(events[-1]):
            # It may be far larger than what may wait for a client.
            return False
        if data := self._teller.tell(events):
            self._send(transport, data)
        return True

    def idle(self) -> bool:
        """Keep proxies from closing a silent connection; False when it is closed, or has long taken nothing."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        unsent = transport.get_write_buffer_size()
        if not unsent:
            self._send(transport, sse.KEEP_ALIVE)
        elif unsent == self._unsent and self._loop.time() - self._moved_at >= _STALLED:
            self.give_up()
            return False
        if unsent != self._unsent:
            self._unsent, self._moved_at = unsent, self._loop.time()
        return True

    async def write(self, data: bytes) -> None:
        """Write what others may be told as well, and keep no copy of more of it than may wait for the client."""
        for begin in range(0, len(data), _UNSENT):
            self.whole = begin + _UNSENT >= len(data)
            async with asyncio.timeout(_STALLED):
                await self._response.write(data[begin : begin + _UNSENT])
                await self._request.writer.drain()
            self.told_at = self._loop.time()

    async def write_batch(self, batch: list[Event]) -> None:
        """Write events together, but the one that ends the interaction alone where that is told as more than it is."""
        if batch and self._teller.grows and is_ending(batch[-1]):
            await self.write(self._teller.tell(batch[:-1]))
            await self.write(self._teller.tell(batch[-1:]))
        else:
            await self.write(self._teller.tell(batch))

    def keep_alive(self) -> None:
        """The same as :meth:`idle`; raises :class:`ConnectionError` where that is False."""
        if not self.idle():
            raise ConnectionResetError("The client is gone, or takes nothing.")

    def silent_for(self, seconds: float) -> bool:
        """Whether it has been sent nothing for so long."""
        return self._loop.time() - self.told_at >= seconds

    async def end(self) -> None:
        """End the stream, and wait until the client has taken all of it."""
        self._bound(0)
        async with asyncio.timeout(_STALLED):
            await self._response.write_eof(sse.DONE)
        self._bound(None)
        unchunked.end(self._request)

    async def break_off(self, farewell: bytes = b"") -> None:
        """End the body without its last chunk, after what was written: every client takes that for a loss."""
        await self.write(farewell)
        if not self._chunked:
            await asyncio.sleep(_LAST_WORDS)
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if transport.get_write_buffer_size():
                self._loop.call_later(_STALLED, transport.abort)
            transport.close()

    def give_up(self) -> None:
        """Drop a connection that takes nothing more."""
        if self._transport is not None:
            self._transport.abort()

    def _bound(self, unsent: int | None) -> None:
        """Let writing wait when more bytes than these wait for the client, or the usual number."""
        # uvloop's transports take nothing any more, not even this, once they are closed.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=unsent)

    def _send(self, transport: asyncio.Transport, data: bytes) -> None:
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self.told_at = self._loop.time()
