"""From an interaction's events to what a caller of each revision reads, behind the place where it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from service.errors import InvalidRequest
from service.interactions.listening import Listening
from service.interactions.render import terminal_event_with_both
from service.store.kept_events import Event
from service.wire import codec, sse
from service.wire.assembler import TERMINAL_EVENTS
from service.wire.legacy_stream import LegacyStream
from service.wire.revision import Revision

_ENDINGS = tuple(f"event: {kind}\n".encode() for kind in TERMINAL_EVENTS)


def is_ending(event: Event) -> bool:
    """Whether an event ends the interaction."""
    return event.frame.startswith(_ENDINGS)


class Teller(Protocol):
    """Tells one listener."""

    #: Whether it has to be given every event from the first one on, whatever its place.
    needs_all: bool
    #: Whether it has come to its place.
    found: bool
    #: Whether it tells the event that ends the interaction with all outputs, however small that came.
    grows: bool
    #: Whether it tells every event as it is.
    is_verbatim: bool

    def tell(self, events: Sequence[Event]) -> bytes:
        """What the listener gets for these events; raises :class:`InvalidRequest` when its place does not exist."""


def teller_for(listening: Listening, revision: Revision) -> Teller:
    """The teller of a caller's revision."""
    match revision:
        case Revision.LEGACY:
            return _Legacy(listening)
        case Revision.EITHER:
            return _Both(listening)
        case _:
            return _Steps()


class _Steps:
    needs_all = False
    found = True
    grows = False
    is_verbatim = True

    def tell(self, events: Sequence[Event]) -> bytes:
        return events[0].frame if len(events) == 1 else b"".join([event.frame for event in events])


class _Both:
    """For callers that have not said which generation they are: the terminal event has the outputs as well."""

    needs_all = False
    found = True
    grows = True
    is_verbatim = False

    def __init__(self, listening: Listening) -> None:
        self._listening = listening

    def tell(self, events: Sequence[Event]) -> bytes:
        return b"".join([self._with_both(event) if is_ending(event) else event.frame for event in events])

    def _with_both(self, event: Event) -> bytes:
        steps = self._listening.steps
        return self._listening.ending(
            "both", lambda: sse.frame(terminal_event_with_both(_body(event), steps))
        )


class _Legacy:
    """Contents are numbered from the first event on, so all are translated and those before the place left out."""

    needs_all = True
    grows = True
    is_verbatim = False

    def __init__(self, listening: Listening) -> None:
        self._listening = listening
        self._place = listening.place
        self._stream = LegacyStream(lambda: listening.steps)
        self.found = not self._place.seq

    def tell(self, events: Sequence[Event]) -> bytes:
        return b"".join([self._frame(told) for event in events for told in self._behind(event)])

    def _frame(self, told: dict[str, Any]) -> bytes:
        if told.get("event_type") != "interaction.complete":
            return sse.frame(told)
        return self._listening.ending("legacy", lambda: sse.frame(told))

    def _behind(self, event: Event) -> list[dict[str, Any]]:
        told = self._stream.feed(_body(event))
        place = self._place
        if self.found and event.seq > place.seq:
            return told
        if event.seq < place.seq:
            return []
        self.found = True
        if not place.part:
            return []
        if place.part >= len(told):
            raise InvalidRequest(
                f"The part {place.part} of the event {event.seq} in 'last_event_id' does not exist. Leave it out to "
                "stream from the beginning."
            )
        return told[place.part :]


def _body(event: Event) -> dict[str, Any]:
    data = sse.data_of(event.frame)
    body: dict[str, Any] = codec.loads(data or b"{}")
    return body
