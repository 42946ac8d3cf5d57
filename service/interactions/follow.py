"""Following an interaction from any of its events on: from the log, then live, in this process or another.

In the process that reads the stream a follower goes on from the log to the feed and back as its pace allows. In any
other it polls the log; hints from the database only make it poll at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from service.errors import NotFound
from service.interactions.feed import Feed, Sink
from service.store.kept_events import APPENDED, Event, KeptEvents

#: Seconds between two looks at the log of what another process reads, without a hint.
_POLL: Final = 0.25
#: Seconds between two questions whether somebody still reads it.
_ASK: Final = 5.0


class Follower:
    """One per process."""

    def __init__(self, events: KeptEvents) -> None:
        self._events = events
        self._news = asyncio.Event()
        events.on_news(APPENDED, self._hear)

    async def live(
        self, feed: Feed, seq: int, idle: float, sink: Callable[[], Sink | None]
    ) -> AsyncIterator[list[Event]]:
        """All events behind one, as they come; an empty list after ``idle`` seconds of silence.

        Where ``sink`` gives one, a listener that is level with the feed is handed the events there instead.

        Raises :class:`NotFound` when what a slow listener has missed was deleted meanwhile.
        """
        while True:
            events = feed.after(seq)
            if events is None:
                page = await self._events.after(feed.key, seq)
                if page is None or not page.events:
                    raise NotFound("The interaction was deleted.")
                events = page.events
            if events:
                seq = events[-1].seq
                yield events
            elif feed.ended:
                return
            elif (direct := sink()) is not None:
                seq = await feed.hand_over(seq, direct, idle)
            elif not await feed.changed(idle):
                yield []

    async def logged(
        self, key: bytes, seq: int, idle: float, look: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[list[Event]]:
        """The same from the log alone, until the interaction has ended.

        ``look`` is called now and then while nothing comes: it is to see that somebody still works on it.
        """
        loop = asyncio.get_running_loop()
        heard = asked = loop.time()
        while True:
            news = self._news
            page = await self._events.after(key, seq)
            if page is None:
                raise NotFound("The interaction was deleted.")
            if page.events:
                seq = page.events[-1].seq
                heard = asked = loop.time()
                yield page.events
                continue
            if page.ended:
                return
            if loop.time() - asked >= _ASK:
                await look()
                asked = loop.time()
                continue
            if loop.time() - heard >= idle:
                heard = loop.time()
                yield []
            try:
                async with asyncio.timeout(_POLL):
                    await news.wait()
            except TimeoutError:
                continue

    def _hear(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
