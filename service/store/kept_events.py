"""The event log as the domain sees it: append, read from any event on, and who is reading a stream now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from service.store import event_log
from service.store.backend import Backend
from service.store.codec import Codec
from service.store.entries import Write
from service.store.records import now, storable
from service.store.statement import Fetch
from service.store.timings import unpack as timings_of
from service.store.writer import Writer

#: What ends an event; its data is one line of JSON.
_END: Final = b"\n\n"
#: What hints are about.
APPENDED: Final = "appended"
CANCEL: Final = "cancel"
#: Events have happened: they wait for the database as long as the process lives.
_FOR_EVER: Final = float("inf")
_PATIENCE: Final = 10.0
#: A page of more bytes is unpacked in a thread, so that the loop is not held up.
_IN_THREAD_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an interaction as it is sent: a block in steps form, with our event id in it."""

    seq: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Consecutive events, joined; ``upstream_cursor`` is upstream's id of the last one, if it gave one.

    ``timings`` are their times (:mod:`service.store.timings`), where there are any.
    """

    first_seq: int
    last_seq: int
    frames: bytes
    upstream_cursor: str | None
    timings: bytes | None = None

    def write(self, key: bytes) -> Write:
        """As a row of an interaction's log."""
        cursor = storable(self.upstream_cursor)
        row = (key, self.frames, self.first_seq, self.last_seq, cursor, self.timings)
        return event_log.INSERT_EVENTS, row


@dataclass(frozen=True, slots=True)
class Page:
    """What the log has after an event; ``ended`` says that there will be no more than what it has now."""

    events: list[Event]
    ended: bool
    full: bool


class KeptEvents:
    """Reads and writes of the event log; every method raises :class:`~service.errors.ServiceUnavailable`."""

    def __init__(self, backend: Backend, fetch: Fetch, writer: Writer, codec: Codec) -> None:
        self._backend = backend
        self._fetch = fetch
        self._writer = writer
        self._codec = codec

    async def append(self, *writes: Write) -> None:
        """Commit batches, and what else is noted of their streams; returns when they are durable."""
        await self._writer.put(*writes, patience=_FOR_EVER)

    async def after(self, key: bytes, seq: int) -> Page | None:
        """A page of the log behind an event, by its seq; None when there is no such interaction any more."""
        rows = await self._fetch(event_log.EVENTS_AFTER, {"id": key, "after": seq})
        if not rows:
            return None
        batches = [row for row in rows if row[1] is not None]
        packed = [(codec, size, body) for _, _, codec, size, body in batches]
        if sum([size for _, size, _ in packed]) > _IN_THREAD_BYTES:
            bodies = await asyncio.to_thread(self._codec.unpack_all, packed)
        else:
            bodies = self._codec.unpack_all(packed)
        events = [
            event
            for (_, first, *_), body in zip(batches, bodies, strict=True)
            for event in _events_of(first, body)
            if event.seq > seq
        ]
        return Page(events, rows[0][0] is not None, len(batches) == event_log.PAGE)

    async def all(self, key: bytes) -> list[Event]:
        """The whole log as it stands."""
        events: list[Event] = []
        while page := await self.after(key, events[-1].seq if events else 0):
            events += page.events
            if not page.full:
                break
        return events

    async def pauses(self, key: bytes) -> dict[int, int]:
        """How many milliseconds after the event before each event came, by its seq; without those that came at once."""
        rows = await self._fetch(event_log.TIMINGS, {"id": key})
        return {
            seq: pause
            for first, last, timings in rows
            for seq, pause in zip(range(first, last + 1), timings_of(timings or b""), strict=False)
            if pause
        }

    async def last(self, key: bytes) -> int:
        """The seq of the newest event in the log; 0 without any."""
        rows = await self._fetch(event_log.LAST_BATCH, {"id": key})
        return rows[0][0] if rows else 0

    async def is_read(self, key: bytes) -> bool:
        """Whether some process reads this interaction's stream now."""
        return bool(await self._fetch(event_log.READER_LEASE, {"id": key, "now": now()}))

    async def wish_cancel(self, key: bytes) -> None:
        """Ask the process that reads this stream to cancel it."""
        await self._writer.put((event_log.WISH_CANCEL, (key, now())), patience=_PATIENCE, shed=True)
        await self.announce(CANCEL)

    async def to_cancel(self) -> set[bytes]:
        """The interactions that somebody has asked to cancel."""
        return {key for (key,) in await self._fetch(event_log.CANCEL_WISHES, {})}

    async def announce(self, topic: str) -> None:
        """Hint to other processes that there is news of this kind; never raises."""
        await self._backend.announce(topic)

    def on_news(self, topic: str, callback: Callable[[], None]) -> None:
        """Call this back at each hint of this kind, from whichever process."""
        self._backend.on_news(lambda heard: callback() if heard == topic else None)


def hold(key: bytes, until: int) -> Write:
    """Note that this process reads an interaction's stream, and may be replaced after ``until``."""
    return event_log.HOLD_READER, (key, until)


def renew(keys: Collection[bytes], until: int) -> Sequence[Write]:
    """Note that it still does."""
    return [(event_log.RENEW_READER, (key, until)) for key in keys]


def release(key: bytes) -> Write:
    """Forget that it did: the interaction has ended."""
    return event_log.RELEASE_READER, (key,)


def _events_of(first: int, body: bytes) -> list[Event]:
    return [Event(seq, block + _END) for seq, block in enumerate(body.split(_END)[:-1], first)]
