"""The live events of one interaction: published by its reader, followed by any number of listeners.

A listener holds a position, not a queue, so one that is slow costs nobody anything. One that is level with the feed is
handed each event when it is published, without a turn of the event loop. What is in the log and not among the newest
events is dropped from memory: a listener that is further behind reads the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from service.interactions.calls import HistoryUsed, Served
from service.store.kept_events import Event

logger = logging.getLogger(__name__)

#: Bytes of logged events that stay in memory for listeners that are a little behind.
_WINDOW: Final = 8 * 1024
#: Bytes that a listener is given at a time.
PIECE: Final = 32 * 1024


class Sink(Protocol):
    """Where a listener that is level with the feed gets its events at once; nothing here may wait."""

    @property
    def told_at(self) -> float:
        """The event loop's time at which the listener was last sent anything: not every event is told."""

    def take(self, seq: int, frame: bytes) -> bool:
        """Take an event; False when it cannot be taken now, and the listener will come for it."""

    def take_all(self, events: Sequence[Event]) -> bool:
        """The same for events that came together: all of them or none."""

    def idle(self) -> bool:
        """The listener has been sent nothing for a while; False when there is no listener any more."""


class _Attachment:
    """One sink that is level with the feed."""

    __slots__ = ("_idle", "_loop", "_sink", "_timer", "over", "seq")

    def __init__(self, seq: int, sink: Sink, idle: float) -> None:
        self.seq = seq
        self._sink = sink
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_later(self._until_idle(), self._look)

    def take(self, seq: int, frame: bytes) -> None:
        if self.over.done() or seq <= self.seq:
            # What ends the interaction is in the log a moment before it is published.
            return
        try:
            taken = self._sink.take(seq, frame)
        except Exception:
            # The listener will meet with it again; whoever publishes must not.
            logger.exception("a listener could not take an event")
            taken = False
        if taken:
            self.seq = seq
        else:
            self.end()

    def take_all(self, events: Sequence[Event]) -> None:
        try:
            taken = self._sink.take_all(events)
        except Exception:
            logger.exception("a listener could not take %d events", len(events))
            taken = False
        if taken:
            self.seq = events[-1].seq
        else:
            self.end()

    def end(self) -> None:
        self._timer.cancel()
        if not self.over.done():
            self.over.set_result(None)

    def _look(self) -> None:
        left = self._until_idle()
        if not left:
            if not self._sink.idle():
                self.end()
                return
            left = self._idle
        self._timer = self._loop.call_later(left, self._look)

    def _until_idle(self) -> float:
        """Seconds until the listener has been sent nothing for too long."""
        return max(0.0, self._sink.told_at + self._idle - self._loop.time())


class Feed:
    """The events of one interaction while it runs."""

    __slots__ = (
        "_attached",
        "_first",
        "_frames",
        "_gathers",
        "_logged",
        "_logged_bytes",
        "_waiting",
        "broken",
        "continues",
        "ended",
        "endings",
        "farewell",
        "held",
        "history",
        "key",
        "listeners",
        "seq",
        "served",
        "steps",
        "upstream_id",
    )

    def __init__(
        self,
        key: bytes,
        history: HistoryUsed,
        served: Served,
        *,
        seq: int = 0,
        upstream_id: str | None = None,
        held: bool = False,
        continues: bool = False,
    ) -> None:
        self.key = key
        #: Whether another reader has told its listeners events before, of which some may be lost and told again here.
        self.continues = continues
        #: Whether listeners are told nothing yet: what they would take for begun could still be lost with this process.
        self.held = held
        #: How many follow it.
        self.listeners = 0
        self.history = history
        self.served = served
        #: Upstream's id, once it is known.
        self.upstream_id = upstream_id
        #: Whether there will be no more events, and whether that is because the stream was lost: then listeners must
        #: abort, not end politely.
        self.ended = False
        self.broken = False
        #: What whoever listens is told when the stream ends here though the interaction goes on: no event of it.
        self.farewell = b""
        #: The seq of the newest event; those before the first of this feed are in the log.
        self.seq = seq
        #: The whole interaction's steps, once it has ended.
        self.steps: list[dict[str, Any]] = []
        #: The event that ends it as each generation of clients is told it, with all outputs: one copy for everybody.
        self.endings: dict[str, bytes] = {}
        self._first = seq + 1
        self._frames: list[bytes] = []
        #: Whether what is published is handed to listeners later, together.
        self._gathers = False
        self._logged = seq
        self._logged_bytes = 0
        self._waiting: list[asyncio.Future[bool]] = []
        self._attached: list[_Attachment] = []

    def publish(self, seq: int, frame: bytes) -> None:
        """Hand the next event to all listeners; where it is not the next seq, all before it must be in the log."""
        if seq != self.seq + 1:
            self._begin_at(seq)
        self.seq = seq
        self._frames.append(frame)
        if self._gathers:
            return
        for attached in self._attached:
            attached.take(seq, frame)
        if self._waiting:
            self._wake()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hand listeners what is published meanwhile at the end of it: one system call, one packet for each of them."""
        self._gathers = True
        try:
            yield
        finally:
            self._gathers = False
            for attached in self._attached:
                while not attached.over.done() and (events := self.after(attached.seq)) != []:
                    if events is None:
                        attached.end()
                    else:
                        attached.take_all(events)
            if self._waiting:
                self._wake()

    def _begin_at(self, seq: int) -> None:
        self._first, self._logged = seq, seq - 1
        self._frames.clear()
        self._logged_bytes = 0

    def release(self) -> None:
        """Tell listeners what there is from now on."""
        if self.held:
            self.held = False
            self._wake()

    def logged(self, seq: int) -> None:
        """The log has all events up to this one: those that are not among the newest leave memory."""
        if seq <= self._logged:
            return
        newly = self._frames[self._logged + 1 - self._first : seq + 1 - self._first]
        self._logged_bytes += sum(map(len, newly))
        self._logged = seq
        if self._logged_bytes > _WINDOW:
            self._drop()

    def _drop(self) -> None:
        dropped = 0
        for frame in self._frames:
            self._logged_bytes -= len(frame)
            dropped += 1
            if self._logged_bytes <= _WINDOW:
                break
        del self._frames[:dropped]
        self._first += dropped

    def end(self, *, broken: bool = False) -> None:
        """No more events."""
        self.broken = self.broken or broken
        self.ended = True
        self.held = False
        for attached in self._attached:
            attached.end()
        self._wake()

    def after(self, seq: int) -> list[Event] | None:
        """Some events behind this one, none if there are none yet; None when they are in the log only.

        They have no more than :data:`PIECE` bytes, or are one.
        """
        place = seq + 1 - self._first
        if place < 0:
            return None
        events: list[Event] = []
        size = 0
        for frame in self._frames[place:]:
            size += len(frame)
            if events and size > PIECE:
                break
            seq += 1
            events.append(Event(seq, frame))
        return events

    async def changed(self, idle: float) -> bool:
        """Wait for the next event or the end, at most ``idle`` seconds; whether it came."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(idle, _answer, waiter, False)
        self._waiting.append(waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def hand_over(self, seq: int, sink: Sink, idle: float) -> int:
        """Hand a listener that has all events up to ``seq`` each one as it comes; after ``idle`` seconds, its silence.

        Returns the seq of the last event that was taken: when the next one could not be, or when there is none.
        """
        if self.ended or seq < self.seq:
            return seq
        attached = _Attachment(seq, sink, idle)
        self._attached.append(attached)
        try:
            await attached.over
        finally:
            attached.end()
            self._attached.remove(attached)
        return attached.seq

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            _answer(waiter, True)


def _answer(waiter: asyncio.Future[bool], came: bool) -> None:
    if not waiter.done():
        waiter.set_result(came)
