"""Events on their way to the client, with everything that can go wrong there (contract 4)."""

from __future__ import annotations

import asyncio
import struct
from socket import SO_LINGER, SOL_SOCKET

import orjson
from aiohttp import web

from service.emulator.core import Emulator
from service.emulator.directives import Directive, Plan
from service.emulator.events import Event
from service.emulator.records import Record
from service.emulator.timeline import Timed, cursor, timeline

DONE = b"event: done\ndata: [DONE]\n\n"
#: A waiting stream looks this often whether its client is still there.
_LOOK_AGAIN = 1.0
_COMMENT = b": keep-alive\n\n"
_CUT = "Deadline expired before operation could complete."
_ERROR_ARRAY = [{"error": {"code": 504, "message": _CUT, "status": "DEADLINE_EXCEEDED"}}]
#: Directives that end a stream early; the first that was asked for counts.
_ENDINGS = ("cut", "stall", "end", "malformed_tail", "error_event")
_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}


class DroppedError(Exception):
    """The connection is gone on purpose; there is nobody to answer."""


def reset(request: web.Request) -> DroppedError:
    """Reset the connection at once, so that what is on the way is lost; returns what is to be raised."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return DroppedError()


async def trickle(request: web.Request, response: web.StreamResponse, body: bytes, wish: Directive) -> None:
    """Send `body` in small pieces."""
    size = max(1, wish.integer("bytes"))
    for start in range(0, len(body), size):
        await response.write(body[start : start + size])
        await asyncio.sleep(wish.number("seconds"))


def frame(event: Event, plan: Plan) -> bytes:
    """One event as a block of lines."""
    data = event
    if "missing_event_type" in plan:
        data = {name: value for name, value in event.items() if name != "event_type"}
    block = b"event: %b\ndata: %b\n\n" % (event["event_type"].encode(), orjson.dumps(data))
    return _dressed(block, plan)


def _dressed(block: bytes, plan: Plan) -> bytes:
    if not plan:
        return block
    if "comments" in plan:
        block = _COMMENT + block
    return block.replace(b"\n", b"\r\n") if "crlf" in plan else block


class Delivery:
    """One stream of a record to one client."""

    def __init__(self, emulator: Emulator, record: Record, plan: Plan, *, first: int = 0, ids: bool) -> None:
        self._clock = emulator.clock
        self._emulator = emulator
        self._record = record
        self._plan = plan
        self._ids = ids
        self._position = first
        self._known_end = record.cancelled_at
        self._events = timeline(record)
        self._sent = 0
        wish = plan.get("limit")
        limit = wish.number("seconds") if wish else emulator.config.stream_limit_seconds
        self._tail = wish.text("tail") if wish else emulator.config.stream_limit_tail
        self._deadline = self._clock.now() + limit
        self._ending = next((plan.get(name) for name in _ENDINGS if name in plan), None)

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Send the stream to its end, whichever that is.

        Raises DroppedError when the end is a cut, and ConnectionError when the client has left.
        """
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        if "reset_headers" in self._plan:
            await asyncio.sleep(0)
            raise reset(request)
        if not self._plan and self._finished_at(self._clock.now()):
            await response.write(self._everything())
        else:
            await self._send_slowly(request, response)
        await response.write_eof()
        return response

    async def _send_slowly(self, request: web.Request, response: web.StreamResponse) -> None:
        while (entry := await self._next(request)) is not None:
            block = self._block(entry)
            if self._ending is not None and self._sent >= self._ending.integer("after"):
                await self._end_early(request, response, block, self._ending)
                return
            await self._write(request, response, block)
            self._sent += 1
            self._position += 1
        if self._out_of_time():
            await self._cut_at_limit(request, response)
        elif "no_done" not in self._plan:
            await self._write(request, response, _dressed(DONE, self._plan))

    async def _next(self, request: web.Request) -> Timed | None:
        """The next event, once it has happened; None at the end of the events or of the time."""
        while not self._out_of_time():
            if self._record.cancelled_at != self._known_end:
                # A cancellation changes what is still to come.
                self._known_end, self._events = self._record.cancelled_at, timeline(self._record)
            waiting = self._position < len(self._events)
            if self._finished():
                return None
            if waiting and self._events[self._position].due <= self._clock.now():
                return self._events[self._position]
            due = self._events[self._position].due if waiting else self._deadline
            await self._clock.wait(min(due, self._deadline, self._clock.now() + _LOOK_AGAIN))
            if self._is_over(request):
                raise _hang_up(request)
        return None

    async def _wait_for_leaving(self, request: web.Request) -> None:
        while not self._is_over(request):
            await self._clock.wait(self._clock.now() + _LOOK_AGAIN)

    def _is_over(self, request: web.Request) -> bool:
        return self._emulator.closing or request.transport is None or request.transport.is_closing()

    def _finished_at(self, now: float) -> bool:
        last = self._events[-1]
        return last.due <= now and last.event["event_type"] == "interaction.completed"

    def _everything(self) -> bytes:
        blocks = []
        while self._position < len(self._events):
            blocks.append(self._block(self._events[self._position]))
            self._position += 1
        return b"".join(blocks) + DONE

    def _out_of_time(self) -> bool:
        return self._clock.now() >= self._deadline and not self._finished()

    def _finished(self) -> bool:
        events = self._events
        return self._position >= len(events) and events[-1].event["event_type"] == "interaction.completed"

    def _block(self, entry: Timed) -> bytes:
        event = {**entry.event, "event_id": cursor(self._position)} if self._ids else entry.event
        return frame(event, self._plan)

    async def _write(self, request: web.Request, response: web.StreamResponse, block: bytes) -> None:
        wish = self._plan.get("trickle")
        if wish is None:
            await response.write(block)
        else:
            await trickle(request, response, block, wish)

    async def _cut_at_limit(self, request: web.Request, response: web.StreamResponse) -> None:
        if self._tail == "abort":
            raise _hang_up(request)
        await response.write(orjson.dumps(_ERROR_ARRAY))

    async def _end_early(
        self, request: web.Request, response: web.StreamResponse, block: bytes, ending: Directive
    ) -> None:
        if ending.name == "cut":
            if ending.flag("partial"):
                await response.write(block[: len(block) // 2])
            raise reset(request) if ending.flag("reset") else _hang_up(request)
        if ending.name == "stall":
            await self._wait_for_leaving(request)
            raise _hang_up(request)
        if ending.name == "malformed_tail":
            await response.write(orjson.dumps(_ERROR_ARRAY))
        elif ending.name == "error_event":
            error = {"message": ending.text("message"), "code": ending.text("code")}
            await response.write(frame({"error": error, "event_type": "error"}, self._plan))
            await response.write(_dressed(DONE, self._plan))


def _hang_up(request: web.Request) -> DroppedError:
    """Close the connection after what was written has left, without the end of the body."""
    if request.transport is not None:
        request.transport.close()
    return DroppedError()
