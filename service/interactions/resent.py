"""What upstream sends again of the end of a log, to a reader that has not written it.

Such a reader knows upstream's cursor behind the last event alone. What comes first and equals what the log ends with,
one after the other, is held back until that cursor comes: then it was told before. Where anything else comes, it was
new and only alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.interactions.arriving import Arrived


class Resent:
    """Tells what is new from what comes again; ``logged`` are the last events of the log, as upstream told them."""

    __slots__ = ("_held", "_places", "_tail")

    def __init__(self, logged: Sequence[Mapping[str, Any]] = ()) -> None:
        # The very last one is known by its cursor.
        self._tail = [_content(event) for event in logged[:-1]]
        self._places = list(range(len(self._tail)))
        self._held: list[Arrived] = []

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    def again(self) -> bool:
        """Another stream begins; whether what was held back is forgotten by it, and will come once more."""
        held = self.holds
        if held:
            self._places = list(range(len(self._tail)))
            self._held.clear()
        return held

    def known(self) -> None:
        """An event has come that is known by its cursor: what came before it was told."""
        self._tail = []
        self._held.clear()

    def new(self, arrived: Arrived) -> Sequence[Arrived]:
        """What is new of all that has come with this event."""
        if not self._tail:
            return (arrived,)
        content = _content(arrived.body)
        self._places = [
            place + 1
            for place in self._places
            if place < len(self._tail) and _is_same(self._tail[place], content)
        ]
        self._held.append(arrived)
        if self._places:
            return ()
        self._tail = []
        held, self._held = self._held, []
        return held


def _content(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "event_id"}


def _is_same(logged: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Whether an event says what one of the log does, where an index is a number whatever it was."""
    if logged == content or type(content.get("index")) is int:
        return logged == content
    return _without_index(logged) == _without_index(content)


def _without_index(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "index"}
