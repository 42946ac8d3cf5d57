"""The event log as the domain sees it: append, read from any event on, and who is reading a stream now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from service.store import event_log
from service.store.backend import Backend
from service.store.codec import Codec
from service.store.entries import Write
from service.store.records import now, storable
from service.store.statement import Fetch, Query, named_keys
from service.store.timings import pack
from service.store.timings import unpack as timings_of
from service.store.writer import Writer

#: What ends an event; its data is one line of JSON.
_END: Final = b"\n\n"
#: What hints are about.
APPENDED: Final = "appended"
CANCEL: Final = "cancel"
#: More events than a reader can have told that were not yet in the log: as far behind its last batch begins what is
#: told, in other events, after it was killed. So an id that was lost is never another event's.
DISTANCE: Final = 1_000_000
#: Events have happened: they wait for the database as long as the process lives.
_FOR_EVER: Final = float("inf")
_PATIENCE: Final = 10.0
#: Bytes of a batch, unless a single event has more, and bytes from which on a page takes no further batch.
_BATCH_BYTES: Final = 64 * 1024
_PAGE_BYTES: Final = 128 * 1024
#: How many logs one query reads: each number is a statement of its own, so there are few.
_LOGS_AT_ONCE: Final = (1, 8, 64, 512)
MOST_LOGS: Final = _LOGS_AT_ONCE[-1]
#: A page of more bytes is unpacked in a thread, so that the loop is not held up.
_IN_THREAD_BYTES: Final = 256 * 1024


class Event(NamedTuple):
    """One event of an interaction as it is sent: a block in steps form, with our event id in it."""

    seq: int
    frame: bytes


class EventBatch(NamedTuple):
    """Consecutive events, joined; ``upstream_cursor`` is upstream's id of the last one, if it gave one.

    ``timings`` are their times (:mod:`service.store.timings`), where there are any.
    """

    first_seq: int
    last_seq: int
    frames: bytes
    upstream_cursor: str | None
    timings: bytes | None = None

    def write(self, key: bytes, owner_id: bytes) -> Write:
        """As a row of an interaction's log, which counts while this process holds the interaction."""
        return event_log.INSERT_EVENTS, self._row(key, owner_id)

    def write_last(self, key: bytes, owner_id: bytes) -> Write:
        """The same for the transaction of an outcome."""
        return event_log.INSERT_LAST_EVENTS, self._row(key, owner_id)

    def _row(self, key: bytes, owner_id: bytes) -> tuple[object, ...]:
        cursor = storable(self.upstream_cursor)
        return key, self.frames, self.first_seq, self.last_seq, cursor, self.timings, owner_id


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
        return await self._page(event_log.EVENTS_AFTER, key, seq)

    async def all(self, key: bytes) -> list[Event]:
        """The whole log as it stands, also of what is deleted and kept for others; that is never to be told."""
        events: list[Event] = []
        seq = 0
        while page := await self._page(event_log.KEPT_EVENTS_AFTER, key, seq):
            events += page.events
            if not page.full:
                break
            seq = events[-1].seq
        return events

    async def logs(self, keys: Sequence[bytes]) -> dict[bytes, Iterator[Event]]:
        """The same for several interactions, in one query for up to :data:`MOST_LOGS`; unpacked as they are read."""
        found: dict[bytes, list[Sequence[Any]]] = {}
        for start in range(0, len(keys), MOST_LOGS):
            some = keys[start : start + MOST_LOGS]
            count = next(size for size in _LOGS_AT_ONCE if size >= len(some))
            wanted = named_keys([*some, *[some[-1]] * (count - len(some))])
            for key, *batch in await self._fetch(event_log.logs_of(count), wanted):
                found.setdefault(key, []).append(batch)
        return {key: self._told(batches) for key, batches in found.items()}

    def _told(self, rows: Sequence[Sequence[Any]]) -> Iterator[Event]:
        seq = 0
        for ended, first, last, codec, size, body in rows:
            if _follows_nothing(ended, first, seq):
                return
            for event in _events_of(first, self._codec.unpack(codec, size, body)):
                if event.seq > seq:
                    yield event
            seq = max(seq, last)

    async def _page(self, query: Query, key: bytes, seq: int) -> Page | None:
        rows = await self._fetch(query, {"id": key, "after": seq})
        if not rows:
            return None
        batches = _connected(rows, seq)
        packed = [(codec, size, body) for _, _, _, codec, size, body in batches]
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
        full = len(rows) == event_log.PAGE or len(batches) < len(rows)
        return Page(events, rows[0][0] is not None, bool(events) and full)

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
        return (await self.end(key))[0]

    async def end(self, key: bytes) -> tuple[int, str | None]:
        """The seq of the newest event in the log, 0 without any, and upstream's cursor behind it."""
        rows = await self._fetch(event_log.LAST_BATCH, {"id": key})
        return (rows[0][0], rows[0][1]) if rows else (0, None)

    async def trim(self, key: bytes, last: int, owner_id: bytes) -> None:
        """Drop what the log of an open interaction of this process has behind an event: a dead process left a gap."""
        if (await self.end(key))[0] > last:
            await self._writer.put((event_log.TRIM_EVENTS, (key, last, owner_id)), patience=_PATIENCE)

    async def wish_cancel(self, key: bytes) -> None:
        """Ask the process that holds this interaction to cancel it."""
        await self._writer.put((event_log.WISH_CANCEL, (key, now())), patience=_PATIENCE, shed=True)
        await self.announce(CANCEL)

    async def to_cancel(self) -> set[bytes]:
        """The interactions that somebody has asked to cancel."""
        return {key for (key,) in await self._fetch(event_log.CANCEL_WISHES, {})}

    async def announce(self, topic: str, key: bytes | None = None) -> None:
        """Hint to other processes that there is news of this kind, or of this kind and interaction; never raises."""
        await self._backend.announce(topic if key is None else f"{topic} {key.hex()}")

    def on_news(self, topic: str, callback: Callable[[], None]) -> None:
        """Call this back at each hint of this kind, from whichever process."""
        self._backend.on_news(lambda heard: callback() if heard == topic else None)

    def on_news_of(self, topic: str, callback: Callable[[bytes], None]) -> None:
        """Call this back with the interaction of each hint of this kind that names one, from whichever process."""

        def hear(heard: str) -> None:
            kind, _, key = heard.partition(" ")
            if kind == topic and key:
                callback(bytes.fromhex(key))

        self._backend.on_news(hear)


def batches_of(
    first: int, frames: Sequence[bytes], upstream_cursor: str | None, pauses: Sequence[int] = ()
) -> list[EventBatch]:
    """Consecutive events from the seq ``first`` on, in batches that can be read one at a time.

    ``upstream_cursor`` is upstream's id of the last event, ``pauses`` are the milliseconds before each, where known.
    """
    whole = b"".join(frames)
    if 0 < len(whole) < _BATCH_BYTES:
        return [EventBatch(first, first + len(frames) - 1, whole, upstream_cursor, _timings(pauses))]
    batches: list[EventBatch] = []
    begin = size = 0
    for end, frame in enumerate(frames, 1):
        size += len(frame)
        if size >= _BATCH_BYTES or end == len(frames):
            cursor = upstream_cursor if end == len(frames) else None
            joined = b"".join(frames[begin:end])
            timings = _timings(pauses[begin:end])
            batches.append(EventBatch(first + begin, first + end - 1, joined, cursor, timings))
            begin, size = end, 0
    return batches


def _timings(pauses: Sequence[int]) -> bytes | None:
    """Their bytes, unless there was no pause at all."""
    return pack(pauses) if any(pauses) else None


def forget_wishes(key: bytes, owner_id: bytes) -> Write:
    """Forget what was asked of the process that holds this interaction: it has ended."""
    return event_log.FORGET_WISHES, (key, owner_id)


def _connected(rows: Sequence[Sequence[Any]], seq: int) -> list[Sequence[Any]]:
    """The batches of one page: as many as fit, and none behind a gap that may yet be filled."""
    batches: list[Sequence[Any]] = []
    size = 0
    for row in rows:
        ended, first, last = row[0], row[1], row[2]
        if size >= _PAGE_BYTES or _follows_nothing(ended, first, seq):
            break
        batches.append(row)
        seq = max(seq, last)
        size += row[4]
    return batches


def _follows_nothing(ended: int | None, first: int | None, seq: int) -> bool:
    """Whether there is no batch, or one behind a gap that may yet be filled."""
    return first is None or (ended is None and seq + 1 < first < seq + DISTANCE)


def _events_of(first: int, body: bytes) -> list[Event]:
    return [Event(seq, block + _END) for seq, block in enumerate(body.split(_END)[:-1], first)]
