"""The live events of one interaction: published by its reader, followed by any number of listeners.

A listener holds a position, not a queue, so one that is slow costs nobody anything. What is in the log and not among
the newest events is dropped from memory: a listener that is further behind reads the log.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from service.interactions.calls import HistoryUsed, Served
from service.store.kept_events import Event

#: Bytes of logged events that stay in memory for listeners that are a little behind.
_WINDOW: Final = 16 * 1024
#: Bytes that a listener is given at a time.
_PIECE: Final = 32 * 1024


class Feed:
    """The events of one interaction while it runs."""

    def __init__(self, key: bytes, history: HistoryUsed, served: Served) -> None:
        self.key = key
        self.history = history
        self.served = served
        #: Upstream's id, once an event has told it.
        self.upstream_id: str | None = None
        #: Whether there will be no more events, and whether that is because the stream was lost: then listeners must
        #: abort, not end politely.
        self.ended = False
        self.broken = False
        #: What whoever listens is told when the stream ends here though the interaction goes on: no event of it.
        self.farewell = b""
        #: The seq of the newest event.
        self.seq = 0
        #: The whole interaction's steps, once it has ended.
        self.steps: list[dict[str, Any]] = []
        self._first = 1
        self._frames: list[bytes] = []
        self._logged = 0
        self._logged_bytes = 0
        self._news: asyncio.Future[None] | None = None

    def publish(self, event: Event) -> None:
        """Hand the next event to all listeners."""
        self.seq = event.seq
        self._frames.append(event.frame)
        self._wake()

    def logged(self, seq: int) -> None:
        """The log has all events up to this one: those that are not among the newest leave memory."""
        for place in range(max(self._logged + 1, self._first), seq + 1):
            self._logged_bytes += len(self._frames[place - self._first])
        self._logged = max(self._logged, seq)
        dropped = 0
        while self._logged_bytes > _WINDOW:
            self._logged_bytes -= len(self._frames[dropped])
            dropped += 1
        if dropped:
            del self._frames[:dropped]
            self._first += dropped

    def end(self, *, broken: bool = False) -> None:
        """No more events."""
        self.broken = self.broken or broken
        self.ended = True
        self._wake()

    def after(self, seq: int) -> list[Event] | None:
        """Some events behind this one, none if there are none yet; None when they are in the log only."""
        place = seq + 1 - self._first
        if place < 0:
            return None
        events: list[Event] = []
        size = 0
        for frame in self._frames[place:]:
            seq += 1
            events.append(Event(seq, frame))
            size += len(frame)
            if size >= _PIECE:
                break
        return events

    async def changed(self, idle: float) -> bool:
        """Wait for the next event or the end, at most ``idle`` seconds; whether it came."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._news,), timeout=idle)
        return bool(done)

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set_result(None)
            self._news = None
