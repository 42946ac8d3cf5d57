"""A stream of steps-generation events becomes the interaction they tell of (contract 4.3 and 4.4).

``interaction.completed`` carries no steps, so they are assembled here, from everything that may contain a
part of them, which flat ``outputs`` may as well (contract 1.4). What cannot be understood is skipped or merged,
never refused: the events have been paid for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

from service.wire.flat_outputs import unsaid
from service.wire.step_builder import StepBuilder
from service.wire.steps import made_steps, step_type_of_delta

#: Events that end an interaction. Google documents the first; others have been reported (contract 4.2).
TERMINAL_EVENTS: Final = {
    f"interaction.{status}": status
    for status in ("completed", "failed", "incomplete", "requires_action", "cancelled", "budget_exceeded")
}
_LONGEST_INDEX: Final = 10
_EMPTY_ERROR = {"code": "api_error", "message": "Upstream sent an error event that says nothing."}


class Assembler:
    """Assembles one interaction.

    Feed it every event in order. An ``interaction.created`` starts from nothing, so a stream that upstream
    replays from its beginning assembles correctly; a stream resumed in the middle continues where it was.
    """

    __slots__ = (
        "_begun",
        "_builders",
        "_error",
        "_given_steps",
        "_interaction",
        "_last",
        "_open",
        "_spare_usage",
        "_status",
        "_terminal",
        "_unstarted",
        "_upstream_id",
        "_usage",
    )

    def __init__(self) -> None:
        self._reset()

    def feed(self, event: dict[str, Any]) -> None:
        """Take in one event, which is not changed. Never raises; unknown events are ignored."""
        kind = event.get("event_type")
        metadata = event.get("metadata")
        if isinstance(metadata, dict):
            self._note_usage(metadata.get("total_usage"))
        if kind == "step.delta":
            self._delta(event)
        elif kind == "step.start":
            self._start(event)
        elif kind == "step.stop":
            self._open.discard(self.index_of(event))
            self._note_usage(event.get("usage"))
        elif kind == "interaction.created":
            self._reset()
            self._begun = True
            self._note_usage(self._merge(event))
        elif kind == "interaction.status_update":
            self._update(event)
        elif kind == "error":
            self._fail(event.get("error"))
        elif isinstance(kind, str) and kind in TERMINAL_EVENTS:
            self._finish(event, TERMINAL_EVENTS[kind])

    def feed_deltas(self, events: Iterable[dict[str, Any]]) -> None:
        """Take in ``step.delta`` events, as :meth:`feed` does; text that a step gets in a row is added at once."""
        for index, run in groupby(events, _grown_by_text):
            deltas = list(run)
            builder = None if index is None else self._builders.get(index)
            if builder is None or not builder.add_texts([event["delta"]["text"] for event in deltas]):
                for event in deltas:
                    self.feed(event)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps so far, by index, and behind them what flat outputs say that they do not."""
        known = self._built() or self._given_steps
        return known + unsaid(self._interaction.get("outputs"), known)

    @property
    def untold(self) -> list[dict[str, Any]]:
        """The steps that upstream made and of which no event has told: they came with the interaction itself."""
        if not self._given_steps and not self._interaction.get("outputs"):
            return []
        told = self._built()
        new = [] if told else self.given_steps
        return new + unsaid(self._interaction.get("outputs"), told or new)

    @property
    def interaction(self) -> dict[str, Any]:
        """The members of the created and the terminal event's ``interaction``, merged, without steps."""
        return dict(self._interaction)

    @property
    def status(self) -> str | None:
        """The latest status; None before any event has told one."""
        return self._status

    @property
    def given_steps(self) -> list[dict[str, Any]]:
        """The steps of the last event that brought them whole, which upstream itself made."""
        given: list[Any] = made_steps({**self._interaction, "steps": self._given_steps})
        return [step for step in given if isinstance(step, dict)]

    @property
    def usage(self) -> dict[str, Any] | None:
        """The terminal event's usage, else the latest that another event carried."""
        return self._usage or self._spare_usage

    @property
    def upstream_id(self) -> str | None:
        """Upstream's id; None when it gives none, as with ``store:false``."""
        return self._upstream_id

    @property
    def terminal(self) -> bool:
        """Whether a terminal event has arrived. An ``error`` event is not one: the interaction may go on."""
        return self._terminal

    @property
    def error(self) -> dict[str, Any] | None:
        """The last ``error`` event's error, never empty; None once the interaction has ended well."""
        return self._error

    def index_of(self, event: dict[str, Any]) -> int:
        """The index of the step that a ``step`` event is of, whose number may be missing or written in another way."""
        number = _whole_number(event.get("index"))
        if number is not None:
            return number
        return self._last + 1 if event.get("event_type") == "step.start" else max(self._last, 0)

    def has_started(self, index: int) -> bool:
        """Whether a ``step.start`` has arrived of the step at an index; a delta may come without one."""
        return index in self._builders and index not in self._unstarted

    def step(self, index: int) -> dict[str, Any] | None:
        """The step at an index of the stream, as it stands."""
        builder = self._builders.get(index)
        return None if builder is None else builder.build()

    @property
    def begun(self) -> bool:
        """Whether an ``interaction.created`` has arrived."""
        return self._begun

    @property
    def indices(self) -> list[int]:
        """The stream's indices of the steps that have begun, in order."""
        return sorted(self._builders)

    def is_open(self, index: int) -> bool:
        """Whether the step at an index of the stream has begun and not stopped."""
        return index in self._open

    def arguments_text(self, index: int) -> str:
        """The fragments of JSON text that have arrived of the arguments of the step at an index."""
        builder = self._builders.get(index)
        return "" if builder is None else builder.arguments_text

    def continued(self, index: int, deltas: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
        """The step at an index as it would stand after these deltas; nothing is changed."""
        builder = self._builders.get(index)
        return None if builder is None else builder.continued(deltas)

    def result(self) -> dict[str, Any]:
        """The whole interaction: its merged members, the status and usage that are known, and its steps."""
        result = dict(self._interaction)
        if self._status is not None:
            result["status"] = self._status
        if self.usage is not None:
            result["usage"] = self.usage
        result["steps"] = self.steps
        return result

    def _built(self) -> list[dict[str, Any]]:
        return [self._builders[index].build() for index in sorted(self._builders)]

    def _reset(self) -> None:
        self._builders: dict[int, StepBuilder] = {}
        self._open: set[int] = set()
        self._unstarted: set[int] = set()
        self._begun = False
        self._last: int = -1
        self._interaction: dict[str, Any] = {}
        self._given_steps: list[dict[str, Any]] = []
        self._status: str | None = None
        self._usage: dict[str, Any] | None = None
        self._spare_usage: dict[str, Any] | None = None
        self._upstream_id: str | None = None
        self._terminal = False
        self._error: dict[str, Any] | None = None

    def _start(self, event: dict[str, Any]) -> None:
        step = event.get("step")
        given: dict[str, Any] = step if isinstance(step, dict) else {}
        self._last = self.index_of(event)
        if self._last in self._unstarted:
            self._unstarted.discard(self._last)
            self._builders[self._last].start_late(given)
        else:
            self._builders[self._last] = StepBuilder(given)
        self._open.add(self._last)

    def _delta(self, event: dict[str, Any]) -> None:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return
        index = self.index_of(event)
        builder = self._builders.get(index)
        if builder is None:
            self._last = index
            builder = self._builders[index] = StepBuilder({"type": step_type_of_delta(delta)})
            self._open.add(index)
            self._unstarted.add(index)
        builder.apply(delta)

    def _update(self, event: dict[str, Any]) -> None:
        self._note_status(event.get("status"))
        self._note_id(event.get("interaction_id"))
        self._note_usage(event.get("usage"))

    def _finish(self, event: dict[str, Any], status: str) -> None:
        self._status = None if status == "completed" else status
        usage = self._merge(event)
        if isinstance(usage, dict) and usage:
            self._usage = usage
        self._status = self._status or status
        self._terminal = True
        if isinstance(event.get("error"), dict):
            self._fail(event["error"])
        elif self._status != "failed":
            self._error = None

    def _fail(self, error: Any) -> None:
        if isinstance(error, str) and error.strip():
            error = {**_EMPTY_ERROR, "message": error}
        self._error = error if isinstance(error, dict) and error else dict(_EMPTY_ERROR)

    def _merge(self, event: dict[str, Any]) -> Any:
        """Take in the members of the event's interaction; gives its usage, of which an early one knows a part."""
        members = event.get("interaction")
        if not isinstance(members, dict):
            return None
        for member, value in members.items():
            if member == "steps":
                self._given_steps = value if isinstance(value, list) else []
            elif value is not None or member not in self._interaction:
                self._interaction[member] = value
        self._note_id(members.get("id"))
        self._note_status(members.get("status"))
        return members.get("usage")

    def _note_id(self, value: Any) -> None:
        if isinstance(value, str) and value:
            self._upstream_id = value

    def _note_status(self, value: Any) -> None:
        if isinstance(value, str) and value:
            self._status = value

    def _note_usage(self, value: Any) -> None:
        if isinstance(value, dict) and value:
            self._spare_usage = value


def _whole_number(value: Any) -> int | None:
    """The number that an index is, or is written as; None for anything else."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _LONGEST_INDEX:
        return int(value)
    return None


def _grown_by_text(event: dict[str, Any]) -> int | None:
    """The index of the step that a ``step.delta`` adds text to; None for one that tells anything else."""
    delta, index = event.get("delta"), event.get("index")
    if (
        isinstance(delta, dict)
        and delta.get("type") == "text"
        and len(delta) == 2
        and isinstance(delta.get("text"), str)
        and isinstance(index, int)
        and "metadata" not in event
    ):
        return index
    return None
