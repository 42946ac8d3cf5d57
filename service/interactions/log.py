"""What the readers of this process append to the event log, written for all of them at once.

An event waits at most the flush interval before its batch is handed to the writer, so a process that is killed loses
what it told its listeners in that time and while the last batch was being committed. A reader whose events the
database does not take is held up, so that memory stays bounded.

While a stream is read its lease is renewed, and the process looks whether somebody wishes it cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from service.errors import ServiceError, StoreError
from service.store import kept_events
from service.store.entries import Write
from service.store.kept_events import Event, EventBatch, KeptEvents
from service.store.records import now
from service.store.timings import pack

logger = logging.getLogger(__name__)

#: Seconds between an event and the moment at which its batch is handed to the writer.
FLUSH_INTERVAL: Final = 0.05
#: Seconds after which somebody else may go on with a stream whose reader is silent, and between two signs of life.
LEASE: Final = 30.0
_RENEW: Final = 10.0
#: Seconds between two looks for wishes to cancel, without a hint.
_LOOK: Final = 1.0
#: Seconds until a batch that the writer has no room for is handed to it again.
_AGAIN: Final = 0.5
#: Bytes of one stream that may wait to be written before its reader is held up.
_MOST_WAITING: Final = 4 * 1024 * 1024


class StreamLog:
    """The log of one stream, as its reader writes it."""

    __slots__ = (
        "_bytes",
        "_cursor",
        "_frames",
        "_last",
        "_log",
        "_pauses",
        "_told_at",
        "_written",
        "key",
        "on_cancel",
        "on_written",
    )

    def __init__(self, log: EventLog, key: bytes) -> None:
        self.key = key
        #: Called with the seq of the newest event that is durable.
        self.on_written: Callable[[int], None] | None = None
        #: Called when another process was asked to cancel this interaction.
        self.on_cancel: Callable[[], None] | None = None
        self._log = log
        self._frames: list[bytes] = []
        self._bytes = 0
        self._last = 0
        self._cursor: str | None = None
        self._pauses: list[int] = []
        self._told_at = 0
        self._written: asyncio.Task[None] | None = None

    def append(self, event: Event, upstream_cursor: str | None) -> None:
        """Log an event soon."""
        self._frames.append(event.frame)
        self._bytes += len(event.frame)
        self._last = event.seq
        self._cursor = upstream_cursor
        moment = int(self._log.time() * 1000)
        self._pauses.append(moment - self._told_at if self._told_at else 0)
        self._told_at = moment
        self._log.flush_soon(self)

    def begin(self, write: Callable[[list[Write]], asyncio.Task[None]]) -> None:
        """Log what there is at once, together with what ``write`` adds to it, and hold the stream's lease."""
        batch = self.take()
        log = [kept_events.hold(self.key, now() + int(LEASE * 1e6))]
        if batch is not None:
            log.append(batch.write(self.key))
        self._written = write(log)
        self._written.add_done_callback(lambda done: self._begun(done, batch))

    async def room(self) -> None:
        """Wait while too much of this stream waits for the database."""
        while self._bytes > _MOST_WAITING:
            await self._log.written()

    async def settled(self) -> None:
        """Wait until nothing of this stream is being written."""
        if self._written is not None:
            await asyncio.wait((self._written,))
        await self._log.written()

    def take(self) -> EventBatch | None:
        """What is not handed to the writer yet, which is the caller's to write from now on."""
        if not self._frames:
            return None
        first = self._last - len(self._frames) + 1
        timings = pack(self._pauses) if any(self._pauses) else None
        batch = EventBatch(first, self._last, b"".join(self._frames), self._cursor, timings)
        self._frames.clear()
        self._pauses.clear()
        self._bytes = 0
        return batch

    def rest(self) -> list[Write]:
        """What the transaction of the outcome has to write: the last events, and that nobody reads the stream."""
        batch = self.take()
        self._log.forget(self)
        return [*([batch.write(self.key)] if batch is not None else []), kept_events.release(self.key)]

    def leave(self) -> None:
        """Log what there is, and let somebody else go on with the stream."""
        self._log.leave(self)

    def durable(self, batch: EventBatch) -> None:
        """A batch is in the log."""
        if self.on_written is not None:
            self.on_written(batch.last_seq)

    def _begun(self, task: asyncio.Task[None], batch: EventBatch | None) -> None:
        if not task.cancelled() and task.exception() is None and batch is not None:
            self.durable(batch)


class EventLog:
    """One per process; owns the tasks that write the log and keep the leases."""

    def __init__(self, events: KeptEvents, interval: float = FLUSH_INTERVAL) -> None:
        self._events = events
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._streams: dict[bytes, StreamLog] = {}
        self._dirty: dict[bytes, StreamLog] = {}
        self._left: list[bytes] = []
        self._due: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        events.on_news(kept_events.CANCEL, self._news.set)

    def open(self, key: bytes) -> StreamLog:
        """The log of a stream that is read from now on."""
        stream = self._streams[key] = StreamLog(self, key)
        if self._beating is None or self._beating.done():
            self._beating = self._loop.create_task(self._beat(), name="reader leases")
        return stream

    def forget(self, stream: StreamLog) -> None:
        """A stream has ended."""
        self._streams.pop(stream.key, None)
        self._dirty.pop(stream.key, None)

    def leave(self, stream: StreamLog) -> None:
        """A stream is not read any more, though it has not ended."""
        self._streams.pop(stream.key, None)
        self._left.append(stream.key)
        self.flush_soon(stream)

    def flush_soon(self, stream: StreamLog) -> None:
        """Write what this stream has at the end of the interval."""
        self._dirty[stream.key] = stream
        if self._due is None and self._flushing is None:
            self._due = self._loop.call_later(self._interval, self._flush)

    async def written(self) -> None:
        """Wait until what is being written is; returns at once if nothing is."""
        if self._flushing is not None:
            await asyncio.wait((self._flushing,))

    async def close(self) -> None:
        """Write what is left; the readers have stopped."""
        while self._dirty or self._flushing is not None:
            if self._flushing is None:
                self._flush()
            await self.written()
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating

    def _flush(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._flushing is None:
            self._flushing = self._loop.create_task(self._write(), name="event log")
            self._flushing.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("events could not be logged", exc_info=error)
        if self._dirty and self._due is None:
            self._due = self._loop.call_later(self._interval, self._flush)

    async def _write(self) -> None:
        dirty, self._dirty = self._dirty, {}
        taken = [(stream, batch) for stream in dirty.values() if (batch := stream.take()) is not None]
        left, self._left = self._left, []
        writes = [batch.write(stream.key) for stream, batch in taken]
        writes += kept_events.renew(left, now())
        if not writes:
            return
        await self._append(writes)
        for stream, batch in taken:
            stream.durable(batch)
        await self._events.announce(kept_events.APPENDED)

    async def _append(self, writes: list[Write]) -> None:
        while True:
            try:
                await self._events.append(*writes)
                return
            except StoreError as error:
                if len(writes) == 1:
                    logger.error("a batch of events cannot be stored: %s", error)
                    return
                for write in writes:
                    await self._append([write])
                return
            except ServiceError as error:
                logger.warning("events wait for the store: %s", error)
                await asyncio.sleep(_AGAIN)

    async def _beat(self) -> None:
        renewed = self._loop.time()
        while self._streams:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._news.wait()
            self._news.clear()
            try:
                if self._loop.time() - renewed > _RENEW:
                    renewed = self._loop.time()
                    await self._renew()
                for key in await self._events.to_cancel():
                    stream = self._streams.get(key)
                    if stream is not None and stream.on_cancel is not None:
                        stream.on_cancel()
            except ServiceError as error:
                logger.warning("the leases of running streams could not be renewed: %s", error)

    async def _renew(self) -> None:
        await self.written()
        if self._streams:
            await self._events.append(*kept_events.renew(self._streams, now() + int(LEASE * 1e6)))
