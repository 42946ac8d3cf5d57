"""What the readers of this process append to the event log, written for all of them at once.

An event waits at most the flush interval before its batch is handed to the writer, so a process that is killed loses
what it told its listeners in that time and while the last batch was being committed. A reader whose events the
database does not take is held up, so that memory stays bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from operator import sub
from typing import Final

from service.errors import ServiceError, StoreError
from service.store import kept_events
from service.store.entries import Write
from service.store.kept_events import EventBatch, KeptEvents
from service.store.writer import NotQueued
from service.wire import ids

logger = logging.getLogger(__name__)

#: Seconds between an event and the moment at which its batch is handed to the writer.
FLUSH_INTERVAL: Final = 0.05
#: Seconds until a batch that the writer has no room for is handed to it again.
_AGAIN: Final = 0.5
#: Seconds that what is left gets to be written when the process stops.
_LAST_EFFORT: Final = 10.0
#: Bytes of one stream that may wait to be written before its reader is held up.
MOST_WAITING: Final = 4 * 1024 * 1024


class StreamLog:
    """The log of one stream, as its reader writes it."""

    __slots__ = (
        "_cursor",
        "_discarded",
        "_frames",
        "_last",
        "_log",
        "_moments",
        "_refused",
        "_returned",
        "_told_at",
        "_waits",
        "_written",
        "key",
        "on_written",
        "waiting",
    )

    def __init__(self, log: EventLog, key: bytes) -> None:
        self.key = key
        #: Called with the seq of the newest event that is durable.
        self.on_written: Callable[[int], None] | None = None
        self._log = log
        self._frames: list[bytes] = []
        #: Bytes that are not handed to the writer yet.
        self.waiting = 0
        self._last = 0
        self._cursor: str | None = None
        #: When each of the frames came, by the clock of the loop, and the one before them, in milliseconds.
        self._moments: list[float] = []
        self._told_at = 0
        self._written: asyncio.Task[None] | None = None
        self._waits = False
        #: What could not be handed to the writer, or was parted from what follows, ahead of the frames.
        self._returned: list[EventBatch] = []
        self._discarded = False
        self._refused = False

    def append(self, seq: int, frame: bytes, upstream_cursor: str | None) -> None:
        """Log an event soon."""
        self._frames.append(frame)
        self._moments.append(self._log.time())
        self.waiting += len(frame)
        self._last = seq
        self._cursor = upstream_cursor
        if not self._waits and not self._discarded:
            self._waits = True
            self._log.flush_soon(self)

    def part(self) -> None:
        """What follows need not begin at the next seq: it is a batch of its own."""
        self._returned += self._batches()

    def begin(self, write: Callable[[list[Write]], asyncio.Task[None]]) -> None:
        """Log what there is at once, in the transaction of what ``write`` adds to it.

        What is not written together with that is written by itself.
        """
        batches = self.take()
        self._written = write([batch.write_last(self.key, self._log.owner_id) for batch in batches])
        self._written.add_done_callback(lambda done: self._begun(done, batches))

    async def room(self) -> None:
        """Wait until no more than :data:`MOST_WAITING` waits for the database."""
        while self.waiting > MOST_WAITING:
            await self._log.flushed()

    async def settled(self) -> None:
        """Wait until nothing of this stream is being written."""
        if self._written is not None:
            await asyncio.wait((self._written,))
        while self._log.is_writing(self.key):
            await self._log.written()

    def take(self) -> list[EventBatch]:
        """What is not handed to the writer yet, which is the caller's to write from now on."""
        self._waits = False
        self.waiting = 0
        batches = self._batches()
        if self._returned:
            batches, self._returned = [*self._returned, *batches], []
        return batches

    def _batches(self) -> list[EventBatch]:
        if not self._frames:
            return []
        first = self._last - len(self._frames) + 1
        batches = kept_events.batches_of(first, self._frames, self._cursor, self._pauses())
        self._frames.clear()
        self._moments.clear()
        return batches

    def _pauses(self) -> list[int]:
        """The milliseconds before each event that is not handed to the writer yet."""
        moments = [int(moment * 1000) for moment in self._moments]
        before = [self._told_at or moments[0], *moments]
        self._told_at = moments[-1]
        return list(map(sub, moments, before))

    def rest(self) -> list[Write]:
        """What the transaction that ends the reading has to write: the last events, and that no wish is left."""
        batches = self.take()
        self._log.forget(self)
        owner_id = self._log.owner_id
        last = [batch.write_last(self.key, owner_id) for batch in batches]
        return [*last, kept_events.forget_wishes(self.key, owner_id)]

    def leave(self) -> None:
        """Log what there is: somebody else goes on with the stream."""
        self._log.flush_soon(self)

    async def left(self) -> None:
        """The same, and wait until it is durable."""
        self.leave()
        await self.settled()
        await self._log.flushed()

    def discard(self) -> None:
        """Log nothing of what is not handed to the writer yet: another process holds the stream."""
        self._discarded = True
        self.take()
        self._log.forget(self)

    def durable(self, batch: EventBatch) -> None:
        """A batch is in the log."""
        if self.on_written is not None and not self._refused:
            self.on_written(batch.last_seq)

    def refused(self) -> None:
        """A batch will never be in the log, so from it on the log has not all events."""
        self._refused = True

    def _begun(self, task: asyncio.Task[None], batches: list[EventBatch]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is None:
            if batches:
                self.durable(batches[-1])
            return
        logger.warning("the beginning of %s is not recorded yet: %s", ids.to_text(self.key), error)
        if isinstance(error, (NotQueued, StoreError)) and batches and not self._discarded:
            self._returned = batches
            self.waiting += sum(len(batch.frames) for batch in batches)
            self._log.flush_soon(self)


class EventLog:
    """The log of all streams that one process reads; owns the task that writes it."""

    def __init__(self, events: KeptEvents, owner_id: bytes, interval: float = FLUSH_INTERVAL) -> None:
        self.owner_id = owner_id
        self._events = events
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._dirty: dict[bytes, StreamLog] = {}
        self._due: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        #: The streams of which anything is being written.
        self._writing: Collection[bytes] = ()
        self._closed = False

    def open(self, key: bytes) -> StreamLog:
        """The log of a stream that is read from now on."""
        return StreamLog(self, key)

    def forget(self, stream: StreamLog) -> None:
        """A stream has nothing left to write."""
        self._dirty.pop(stream.key, None)

    def flush_soon(self, stream: StreamLog) -> None:
        """Write what this stream has at the end of the interval."""
        self._dirty[stream.key] = stream
        if self._due is None and self._flushing is None and not self._closed:
            self._due = self._loop.call_later(self._interval, self._flush)

    async def flushed(self) -> None:
        """Write what waits now, and wait until that is durable."""
        self._flush()
        await self.written()

    def is_writing(self, key: bytes) -> bool:
        """Whether anything of a stream is being written, which may take as long as the database cannot."""
        return key in self._writing

    async def written(self) -> None:
        """Wait until what is being written is; returns at once if nothing is."""
        if self._flushing is not None:
            await asyncio.wait((self._flushing,))

    async def close(self, patience: float = _LAST_EFFORT) -> None:
        """Write what is left, the readers having stopped; after ``patience`` seconds it is given up.

        Nothing is written afterwards: what the last writes could not record has nobody left to wait for it.
        """
        try:
            async with asyncio.timeout(patience):
                while self._dirty or self._flushing is not None:
                    await self.flushed()
        except TimeoutError:
            logger.error(
                "the last events of running streams are lost: the store could not be written until the end"
            )
            self._dirty.clear()
            if self._flushing is not None:
                self._flushing.cancel()
                await self.written()
        finally:
            self._closed = True
            if self._due is not None:
                self._due.cancel()

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
        if self._dirty and self._due is None and not self._closed:
            self._due = self._loop.call_later(self._interval, self._flush)

    async def _write(self) -> None:
        dirty, self._dirty = self._dirty, {}
        taken = [(stream, batch) for stream in dirty.values() for batch in stream.take()]
        if not taken:
            return
        self._writing = dirty
        try:
            await self._append(taken)
        finally:
            self._writing = ()
        await self._events.announce(kept_events.APPENDED)

    async def _append(self, taken: list[tuple[StreamLog, EventBatch]]) -> None:
        writes = [batch.write(stream.key, self.owner_id) for stream, batch in taken]
        while True:
            try:
                await self._events.append(*writes)
                for stream, batch in taken:
                    stream.durable(batch)
                return
            except StoreError as error:
                if len(taken) == 1:
                    logger.error("a batch of events cannot be stored: %s", error)
                    taken[0][0].refused()
                    return
                for one in taken:
                    await self._append([one])
                return
            except ServiceError as error:
                logger.warning("events wait for the store: %s", error)
                await asyncio.sleep(_AGAIN)
