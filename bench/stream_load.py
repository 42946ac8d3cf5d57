"""Clients of streams on raw protocols: chunks are found, events counted, moments compared, and nothing else is read.

Times are microseconds of ``CLOCK_MONOTONIC``, the clock of the moments in the events (``bench/mock_stream.py``).
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from bench.load import percentile, request_bytes
from bench.mock_stream import EVENTS

_MOMENT = re.compile(rb'"@(\d{16})')
_REQUEST_BYTES = 1024
#: Seconds after which a stream that has not ended counts as an error.
_PATIENCE = 15.0


def microseconds() -> int:
    """Now."""
    return time.monotonic_ns() // 1000


def _samples() -> array[int]:
    # No list: the collector would look through it, and its pause would count as a delay.
    return array("q")


@dataclass(slots=True)
class Tally:
    """What all clients of one measurement have seen."""

    events: int = 0
    #: From the request to the first event, of each stream.
    firsts: array[int] = field(default_factory=_samples)
    #: From upstream to here, of each event that has its moment.
    delays: array[int] = field(default_factory=_samples)


class StreamClient(asyncio.Protocol):
    """One keep-alive connection, one stream at a time; calls ``ended(client, whole)`` when a stream is over.

    ``whole`` is whether all events came, the terminal one included, and the body's end. A connection that ends is no
    longer used: ``closed`` says so.
    """

    def __init__(self, request: bytes, tally: Tally, ended: Callable[[StreamClient, bool], None]) -> None:
        self._request = request
        self._tally = tally
        self._ended = ended
        self._started = 0
        self._events = 0
        self._in_head = True
        self._data = b""
        self._block = b""
        self._newest = b""
        self.streaming = False
        self.closed = False
        self.transport: asyncio.Transport

    def start(self) -> None:
        """Ask for a stream."""
        self._events = 0
        self._in_head = True
        self.streaming = True
        self._started = microseconds()
        self.transport.write(self._request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.streaming:
            self._end(whole=False)

    def data_received(self, data: bytes) -> None:
        moment = microseconds()
        if self._data:
            data = self._data + data
        at = 0
        if self._in_head:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._data = data
                return
            if not data.startswith(b"HTTP/1.1 200") or b"chunked" not in data[:end].lower():
                self.transport.abort()
                return
            self._in_head = False
            at = end + 4
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line], 16)
            end = line + 2 + size
            if len(data) < end + 2:
                break
            at = end + 2
            if not size:
                self._data = data[at:]
                self._end(whole=self._events == EVENTS and b"[DONE]" in self._newest)
                return
            self._blocks(data[line + 2 : end], moment)
        self._data = data[at:]

    def _blocks(self, text: bytes, moment: int) -> None:
        if self._block or not text.endswith(b"\n\n"):
            text = self._block + text
            whole = text.rfind(b"\n\n") + 2 if b"\n\n" in text else 0
            text, self._block = text[:whole], text[whole:]
        count = text.count(b"event: ")
        if not count:
            return
        tally = self._tally
        if not self._events:
            tally.firsts.append(moment - self._started)
        self._events += count
        tally.events += count
        self._newest = text
        for sent in _MOMENT.findall(text):
            tally.delays.append(moment - int(sent))

    def _end(self, *, whole: bool) -> None:
        self.streaming = False
        self._ended(self, whole)


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One measurement; times in milliseconds."""

    #: Whole streams that ended while all clients were at work.
    completed: int
    errors: int
    #: All events, also those before and after that time.
    events: int
    first_p50_ms: float
    delay_p50_ms: float
    delay_p99_ms: float
    #: How much of a processor the clients took.
    load_busy: float


class Load:
    """So many clients, each with a stream open all the time: the next begins when the last has ended.

    They begin one after another within the time of one stream (``stream_seconds``), and what is completed is counted
    from then on for ``seconds``. Streams that are open at the end are read to their end.
    """

    def __init__(self, port: int, streams: int, *, seconds: float, stream_seconds: float) -> None:
        self._request = request_bytes(port, _REQUEST_BYTES, stream=True)
        self._port = port
        self._streams = streams
        self._ramp = stream_seconds
        self._seconds = seconds
        self._tally = Tally()
        self._completed = 0
        self._errors = 0
        self._running = streams
        self._count_from = 0.0
        self._stop_at = 0.0

    async def measure(self) -> StreamResult:
        """Run it."""
        loop = asyncio.get_running_loop()
        clients = [await self._connect() for _ in range(self._streams)]
        busy, started = time.process_time(), time.monotonic()
        self._count_from = started + self._ramp
        self._stop_at = self._count_from + self._seconds
        for number, client in enumerate(clients):
            loop.call_later(number / self._streams * self._ramp, client.start)
        while self._running and time.monotonic() < self._stop_at + _PATIENCE:
            await asyncio.sleep(0.05)
        elapsed = time.monotonic() - started
        result = self._result((time.process_time() - busy) / elapsed)
        for client in clients:
            client.streaming = False
            client.transport.abort()
        return result

    async def _connect(self) -> StreamClient:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: StreamClient(self._request, self._tally, self._ended), "127.0.0.1", self._port
        )
        return client

    def _ended(self, client: StreamClient, whole: bool) -> None:
        moment = time.monotonic()
        self._errors += not whole
        self._completed += whole and self._count_from <= moment < self._stop_at
        if moment < self._stop_at and not client.closed:
            client.start()
        else:
            self._running -= 1

    def _result(self, busy: float) -> StreamResult:
        delays = sorted(self._tally.delays)
        return StreamResult(
            completed=self._completed,
            errors=self._errors + self._running,
            events=self._tally.events,
            first_p50_ms=percentile(sorted(self._tally.firsts), 0.5) / 1000,
            delay_p50_ms=percentile(delays, 0.5) / 1000,
            delay_p99_ms=percentile(delays, 0.99) / 1000,
            load_busy=busy,
        )
