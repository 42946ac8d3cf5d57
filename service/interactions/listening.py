"""A listener's way to the events of one interaction: live, from the log, or regenerated where there was no stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.errors import InvalidRequest, NotFound, ServiceError, ServiceUnavailable
from service.interactions.calls import HistoryUsed, Principal, Served
from service.interactions.feed import Feed, Sink
from service.interactions.follow import Follower
from service.interactions.lifecycle import Lifecycle
from service.interactions.outcomes import steps_of
from service.interactions.readers import Readers
from service.interactions.render import with_steps
from service.store.kept_events import DISTANCE, Event, KeptEvents
from service.store.records import Record
from service.wire import event_ids, losses, regenerate, sse

#: Seconds that an event which another process has sent out may take to arrive in the log.
_ON_ITS_WAY: Final = 1.0
_LOOK_AGAIN: Final = 0.05
#: Seconds after which to ask again for an event that a process has told and nobody has logged.
_ASK_AGAIN: Final = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listener goes on: behind the event ``seq``, of which a legacy client may have seen ``part`` parts."""

    seq: int = 0
    part: int = 0
    #: Whether the event is one of a record that has no log (:mod:`service.wire.regenerate`).
    regenerated: bool = False


class Listening:
    """The events of one interaction for one listener."""

    __slots__ = (
        "_feed",
        "_follower",
        "_lost",
        "_record",
        "_steps",
        "_streams",
        "history",
        "key",
        "place",
        "replayed",
        "served",
        "upstream_id",
    )

    def __init__(
        self,
        key: bytes,
        upstream_id: str | None,
        place: Place,
        follower: Follower,
        feed: Feed | None = None,
        streams: Streams | None = None,
        record: Record | None = None,
    ) -> None:
        self.key = key
        self.upstream_id = upstream_id
        self.place = place
        self.history: HistoryUsed | None = None if feed is None else feed.history
        #: Whether an earlier request with the same idempotency key has made it.
        self.replayed = False
        self.served: Served | None = None if feed is None else feed.served
        self._feed = feed
        self._follower = follower
        self._streams = streams
        self._record = record
        self._steps: list[dict[str, Any]] = []
        self._lost = False

    @property
    def deployment(self) -> str | None:
        """Where the interaction is made, or was."""
        if self._record is not None:
            return self._record.deployment_id
        return None if self.served is None else self.served.deployment

    @property
    def broken(self) -> bool:
        """Whether the events have stopped though the interaction had not ended, or was lost with the last of them."""
        return self._lost or (self._feed is not None and self._feed.broken)

    @property
    def farewell(self) -> bytes:
        """What to tell the listener then, if anything."""
        return b"" if self._feed is None else self._feed.farewell

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps of the whole interaction, once :meth:`events` has given the last event."""
        return self._steps if self._feed is None else self._feed.steps

    def ending(self, generation: str, make: Callable[[], bytes]) -> bytes:
        """The event that ends the interaction, as one generation is told it: made once for all who listen to a feed."""
        if self._feed is None:
            return make()
        known = self._feed.endings.get(generation)
        if known is None:
            known = self._feed.endings[generation] = make()
        return known

    async def events(
        self, *, whole: bool, idle: float, sink: Callable[[], Sink | None]
    ) -> AsyncIterator[list[Event]]:
        """All events behind the place, or with ``whole`` from the first one on.

        An empty list says that there is none yet, or that there was none for ``idle`` seconds. What is published while
        the listener is level goes to the ``sink``, once that gives one, and not through here.
        Raises :class:`~service.errors.NotFound` when the interaction is deleted meanwhile.
        """
        seq = 0 if whole else self.place.seq - (self.place.part > 0)
        if self._feed is not None:
            self._feed.listeners += 1
            try:
                async for events in self._follower.live(self._feed, seq, idle, sink):
                    if self.upstream_id is None:
                        self.upstream_id = self._feed.upstream_id
                    yield events
            finally:
                self._feed.listeners -= 1
        elif self._streams is not None and self._record is not None:
            async for events in self._streams.stored(self._record, seq, idle, self._steps):
                if events and events[-1].seq > self.place.seq:
                    self._lost = losses.is_loss(events[-1].frame)
                yield events


class Paced(Listening):
    """The events of a stored interaction, each so many milliseconds after the one before as ``pauses`` says by seq."""

    __slots__ = ("_pauses",)

    def __init__(
        self, record: Record, follower: Follower, streams: Streams, pauses: Mapping[int, int]
    ) -> None:
        super().__init__(record.id, record.upstream_id, Place(), follower, streams=streams, record=record)
        self._pauses = pauses

    async def events(
        self, *, whole: bool, idle: float, sink: Callable[[], Sink | None]
    ) -> AsyncIterator[list[Event]]:
        """As :meth:`Listening.events`, in time."""
        async for events in super().events(whole=whole, idle=idle, sink=sink):
            due: list[Event] = []
            for event in events:
                pause = self._pauses.get(event.seq, 0) / 1000
                if pause and due:
                    yield due
                    due = []
                while pause > idle:
                    await asyncio.sleep(idle)
                    pause -= idle
                    yield []
                await asyncio.sleep(pause)
                due.append(event)
            yield due


class Streams:
    """Opens what is listened to by GET."""

    def __init__(
        self, events: KeptEvents, readers: Readers, lifecycle: Lifecycle, follower: Follower
    ) -> None:
        self._events = events
        self._readers = readers
        self._lifecycle = lifecycle
        self._follower = follower

    def live(self, feed: Feed) -> Listening:
        """Follow what this process has begun to read, from its first event on."""
        return Listening(feed.key, feed.upstream_id, Place(), self._follower, feed=feed)

    def whole(self, record: Record) -> Listening:
        """All events of an interaction that was found before, which this process does not read."""
        return Listening(record.id, record.upstream_id, Place(), self._follower, streams=self, record=record)

    def recorded(self, record: Record, pauses: Mapping[int, int]) -> Listening:
        """The events of a finished interaction from its first one on, with these pauses before them."""
        return Paced(record, self._follower, self, pauses)

    async def open(self, principal: Principal, reference: str, cursor: str | None) -> Listening:
        """The events of an interaction, behind the one with the id ``cursor``.

        Raises :class:`InvalidRequest` when it has no such event, and :class:`ServiceUnavailable` while it may yet be
        told again: a process that was killed may have told it and not logged it.
        """
        place = _place(cursor)
        record = await self._lifecycle.find(principal, reference)
        feed = self._readers.feed(record.id)
        if feed is not None and await _reaches(feed, place, cursor):
            return Listening(record.id, feed.upstream_id, place, self._follower, feed=feed)
        await self._check(record, place, cursor)
        return Listening(record.id, record.upstream_id, place, self._follower, streams=self, record=record)

    async def stored(
        self, record: Record, seq: int, idle: float, steps: list[dict[str, Any]]
    ) -> AsyncIterator[list[Event]]:
        """The events in the log, or made of the record where it ends without one; fills ``steps`` before the last."""

        async def look() -> None:
            # As it stands now: the record may have been found before upstream's id was known.
            await self._told(record)

        told = seq
        if not record.terminal or await self._events.last(record.id):
            async for events in self._follower.logged(record.id, seq, idle, look):
                if events:
                    told = events[-1].seq
                    if _is_terminal(events[-1]):
                        steps[:] = await self._steps(record)
                yield events
        if told == seq and not await self._events.last(record.id):
            steps[:] = await self._steps(record)
            yield (await self._regenerated(record))[seq:]

    async def _told(self, record: Record) -> dict[str, Any]:
        _, told = await self._lifecycle.told(await self._lifecycle.current(record))
        return told

    async def _steps(self, record: Record) -> list[dict[str, Any]]:
        return steps_of(await self._told(record))

    async def _regenerated(self, record: Record) -> list[Event]:
        events = regenerate.events_of(with_steps(await self._told(record)))
        return [Event(seq, sse.frame(event)) for seq, event in enumerate(events, 1)]

    async def _check(self, record: Record, place: Place, cursor: str | None) -> None:
        if not place.seq:
            return
        if place.regenerated:
            known = record.terminal and not await self._events.last(record.id)
            known = known and place.seq <= len(await self._regenerated(record))
        else:
            known = await self._has(record, place.seq)
        if not known:
            raise _unknown(cursor)

    async def _has(self, record: Record, seq: int) -> bool:
        """Whether the log has an event; waits a little for one that another process has just sent out."""
        ends_at = asyncio.get_running_loop().time() + _ON_ITS_WAY
        while True:
            page = await self._events.after(record.id, seq - 1)
            if page is None:
                raise NotFound("The interaction was deleted.")
            if page.events or page.ended:
                return bool(page.events) and page.events[0].seq == seq
            if asyncio.get_running_loop().time() >= ends_at:
                break
            await asyncio.sleep(_LOOK_AGAIN)
        if seq < await self._events.last(record.id) + DISTANCE:
            raise _not_yet(seq)
        return False


async def _reaches(feed: Feed, place: Place, cursor: str | None) -> bool:
    """Whether a feed has told an event; False when it has ended without that.

    Raises :class:`InvalidRequest` when it never will, and :class:`ServiceUnavailable` when it may tell it later.
    """
    if place.seq <= feed.seq and not place.regenerated:
        return True
    if place.regenerated or not feed.continues or place.seq >= feed.seq + DISTANCE:
        raise _unknown(cursor)
    ends_at = asyncio.get_running_loop().time() + _ON_ITS_WAY
    while not feed.ended:
        if place.seq <= feed.seq:
            return True
        if asyncio.get_running_loop().time() >= ends_at:
            raise _not_yet(place.seq)
        await asyncio.sleep(_LOOK_AGAIN)
    return False


def _is_terminal(event: Event) -> bool:
    return event.frame.startswith(b"event: interaction.") and not event.frame.startswith(
        (b"event: interaction.created", b"event: interaction.status_update")
    )


def _place(cursor: str | None) -> Place:
    if not cursor:
        return Place()
    regenerated = cursor.startswith(regenerate.CURSOR)
    found = event_ids.parse(
        event_ids.CURSOR + cursor.removeprefix(regenerate.CURSOR) if regenerated else cursor
    )
    if found is None:
        raise _unknown(cursor)
    return Place(*found, regenerated)


def _not_yet(seq: int) -> ServiceError:
    return ServiceUnavailable(
        f"The event '{event_ids.text(seq)}' in 'last_event_id' is not recorded yet: the process that reads this "
        "interaction, or takes it over, may tell it still. Try again with the same 'last_event_id'.",
        retry_after=_ASK_AGAIN,
    )


def _unknown(cursor: str | None) -> ServiceError:
    return InvalidRequest(
        f"The value {(cursor or '')[:100]!r} of 'last_event_id' is not the id of an event of this interaction. "
        "Leave it out to stream from the beginning."
    )
