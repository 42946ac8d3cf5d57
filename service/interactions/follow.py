"""Following an interaction from any of its events on: from the log, then live, in this process or another.

In the process that reads the stream a follower goes on from the log to the feed and back as its pace allows. In any
other it polls the log; hints from the database only make it poll at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

from service.errors import NotFound, ServiceUnavailable
from service.interactions.feed import PIECE, Feed, Sink
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
        """All events behind one, as they come; an empty list when there is none yet, or for ``idle`` seconds.

        Where ``sink`` gives one, a listener that is level with the feed is handed the events there instead.

        Raises :class:`NotFound` when what a slow listener has missed was deleted meanwhile, and
        :class:`ServiceUnavailable` when it never came to the log.
        """
        begun = False
        heard = asyncio.get_running_loop().time()
        while True:
            events = [] if feed.held else feed.after(seq)
            if events is None:
                ended = feed.ended
                page = await self._events.after(feed.key, seq)
                if page is None:
                    raise NotFound("The interaction was deleted.")
                if not page.events:
                    if ended:
                        raise ServiceUnavailable("Events of this stream did not come to the log.")
                    # A batch that was held up, before one that was not.
                    await asyncio.sleep(_POLL)
                    moment = asyncio.get_running_loop().time()
                    if moment - heard >= idle:
                        heard = moment
                        yield []
                    continue
                events = page.events
            if events:
                begun, seq = True, events[-1].seq
                for piece in _pieces(events):
                    yield piece
            elif feed.ended:
                return
            elif not feed.held and (direct := sink()) is not None:
                begun, seq = True, await feed.hand_over(seq, direct, idle)
                if seq == feed.seq and not feed.ended:
                    # Nobody was there to hear of the silence; writing to a client that has left ends this.
                    yield []
            elif not begun or not await feed.changed(idle):
                begun = True
                yield []

    async def logged(
        self, key: bytes, seq: int, idle: float, look: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[list[Event]]:
        """The same from the log alone, until the interaction has ended.

        ``look`` is called now and then while nothing comes: it is to see that somebody still works on it.
        """
        loop = asyncio.get_running_loop()
        heard = asked = loop.time()
        begun = False
        while True:
            news = self._news
            page = await self._events.after(key, seq)
            if page is None:
                raise NotFound("The interaction was deleted.")
            if page.events:
                begun, seq = True, page.events[-1].seq
                for piece in _pieces(page.events):
                    yield piece
                heard = asked = loop.time()
                continue
            if page.ended:
                return
            if not begun or loop.time() - heard >= idle:
                begun, heard = True, loop.time()
                yield []
            if loop.time() - asked >= _ASK:
                await look()
                asked = loop.time()
                continue
            try:
                async with asyncio.timeout(_POLL):
                    await news.wait()
            except TimeoutError:
                continue

    def _hear(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _pieces(events: list[Event]) -> Iterator[list[Event]]:
    """The events in portions that a listener is given at a time."""
    begin = size = 0
    for end, event in enumerate(events, 1):
        size += len(event.frame)
        if size >= PIECE or end == len(events):
            yield events[begin:end]
            begin, size = end, 0
