"""The live events of one interaction: published by its reader, followed by any number of listeners.

A listener holds a position, not a queue, so one that is slow costs nobody anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from service.interactions.calls import HistoryUsed


@dataclass(frozen=True, slots=True)
class Event:
    """One event under our ids: as bytes ready to send, and as what they say."""

    frame: bytes
    body: dict[str, Any]


class Feed:
    """The events of one interaction while it runs."""

    def __init__(self, key: bytes, history: HistoryUsed) -> None:
        self.key = key
        self.history = history
        #: Upstream's id, once an event has told it.
        self.upstream_id: str | None = None
        #: Whether there will be no more events, and whether that is because the stream was lost: then listeners must
        #: abort, not end politely.
        self.ended = False
        self.broken = False
        #: The terminal event and the whole interaction's steps, once they are known.
        self.last: Event | None = None
        self.steps: list[dict[str, Any]] = []
        self._events: list[Event] = []
        self._news: asyncio.Future[None] | None = None

    def publish(self, event: Event) -> None:
        """Hand an event to all listeners."""
        self._events.append(event)
        self._wake()

    def end(self, *, broken: bool = False) -> None:
        """No more events."""
        self.broken = self.broken or broken
        self.ended = True
        self._wake()

    async def batches(self, idle: float) -> AsyncIterator[list[Event]]:
        """All events from the first one on, as they come; an empty batch after ``idle`` seconds of silence."""
        position = 0
        while True:
            if position < len(self._events):
                batch = self._events[position:]
                position += len(batch)
                yield batch
            elif self.ended:
                return
            elif not await self._changed(idle):
                yield []

    async def _changed(self, idle: float) -> bool:
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._news,), timeout=idle)
        return bool(done)

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set_result(None)
            self._news = None
