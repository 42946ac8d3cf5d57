"""A stream of steps events, told to a legacy client (contract 4.5 and 5.6).

A step that holds content becomes one legacy content per item, any other step becomes one content; contents
are numbered afresh for every interaction. Arguments that arrive in fragments are held back and sent whole
when their step stops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from service.wire.assembler import TERMINAL_EVENTS, Assembler
from service.wire.legacy import interaction_to_legacy, legacy_status
from service.wire.step_builder import StepBuilder
from service.wire.steps import MEDIA_TYPES, content_list, step_type_of_delta, type_of

_Event = dict[str, Any]
_Step = dict[str, Any]
#: The steps that have calls' arguments.
_CALL: Final = "_call"


class _OpenStep:
    """A step that has started: the legacy content it tells, and whether that is held back until the stop.

    Only of a call is it kept what it says.
    """

    __slots__ = ("call", "content_type", "held", "index", "kind")

    def __init__(self, step: _Step) -> None:
        self.kind = type_of(step)
        self.held = self.kind == "function_call"
        self.call = StepBuilder(step) if self.kind.endswith(_CALL) else None
        self.index: int | None = None
        self.content_type = ""

    def apply(self, delta: dict[str, Any]) -> None:
        """Add a delta to the call, if it is one; fragments of arguments make anything a call."""
        if delta.get("type") == "arguments_delta":
            self.held = True
            self.call = self.call or StepBuilder({"type": self.kind})
        if self.call is not None:
            self.call.apply(delta)


class LegacyStream:
    """Translates one stream, which may hold several interactions one after the other.

    Feed it from the interaction's first event: contents are numbered. ``interaction.complete`` carries the outputs of
    the ``steps``, which are asked for then: nothing that the stream has told is kept here. To resume, translate
    everything and drop what the client has seen, by the ``event_id`` of the translated events: each has its own, and
    the same events always get the same ones.
    """

    __slots__ = ("_next_index", "_open_steps", "_steps", "_whole")

    def __init__(self, steps: Callable[[], list[_Step]]) -> None:
        #: What is known of the interaction besides its steps.
        self._whole = Assembler()
        self._steps = steps
        self._open_steps: dict[int, _OpenStep] = {}
        self._next_index = 0

    def feed(self, event: _Event) -> list[_Event]:
        """The legacy events for one steps event; none, one or several.

        The last of them has the steps event's ``event_id``, those before it have that id with ``.1``, ``.2``
        and so on behind it. Errors and unknown events are passed through as they are.
        """
        self._note(event)
        told = self._translate(event)
        event_id = event.get("event_id")
        if event_id is None or not told or told[-1] is event:
            return told
        for part, before in enumerate(told[:-1], 1):
            before["event_id"] = f"{event_id}.{part}"
        told[-1]["event_id"] = event_id
        return told

    def _note(self, event: _Event) -> None:
        if event.get("event_type") not in ("step.start", "step.delta"):
            self._whole.feed(event)
        elif "metadata" in event:
            self._whole.feed({"metadata": event["metadata"]})

    def _translate(self, event: _Event) -> list[_Event]:
        match event.get("event_type"):
            case "step.delta":
                return self._delta(event)
            case "step.start":
                return self._start(event)
            case "step.stop":
                return self._stop(event.get("index"))
            case "interaction.created":
                return self._created(event)
            case "interaction.status_update":
                return [_with_legacy_status(event)]
            case str() as kind if kind in TERMINAL_EVENTS:
                return self._complete()
            case _:
                return [event]

    def _created(self, event: _Event) -> list[_Event]:
        self._open_steps = {}
        self._next_index = 0
        members = event.get("interaction")
        interaction = dict(members) if isinstance(members, dict) else {}
        interaction.pop("steps", None)
        return [{"event_type": "interaction.start", "interaction": _with_legacy_status(interaction)}]

    def _complete(self) -> list[_Event]:
        told = [event for index in sorted(self._open_steps) for event in self._stop(index)]
        interaction = interaction_to_legacy({**self._whole.result(), "steps": self._steps()})
        return [*told, {"event_type": "interaction.complete", "interaction": interaction}]

    def _start(self, event: _Event) -> list[_Event]:
        index = event.get("index")
        step = event.get("step")
        if not isinstance(index, int) or not isinstance(step, dict):
            return []
        opened = self._open_steps.get(index)
        is_late = opened is not None
        if opened is None:
            opened = self._open_steps[index] = _OpenStep(step)
        elif opened.call is not None:
            opened.call.start_late(step)
        match opened.kind:
            case "user_input":
                return []
            case "model_output":
                return [
                    told for item in content_list(step.get("content")) for told in self._item(opened, item)
                ]
            case "thought":
                return self._thought(opened, step)
            case _:
                return [] if is_late else [self._open(opened, step)]

    def _delta(self, event: _Event) -> list[_Event]:
        delta = event.get("delta")
        index = event.get("index")
        if not isinstance(delta, dict) or not isinstance(index, int):
            return []
        told: list[_Event] = []
        step = self._open_steps.get(index)
        if step is None:
            step = self._open_steps[index] = _OpenStep({"type": step_type_of_delta(delta)})
            if step.kind not in ("model_output", "user_input"):
                told.append(self._open(step, {"type": step.kind}))
        if step.kind == "user_input":
            return told
        if step.kind == "model_output":
            return told + self._content_delta(step, delta)
        step.apply(delta)
        if not step.held:
            told.append(_content_event(step, delta))
        return told

    def _stop(self, index: Any) -> list[_Event]:
        step = self._open_steps.pop(index, None) if isinstance(index, int) else None
        if step is None:
            return []
        told: list[_Event] = []
        if step.held and step.call is not None:
            told.append(_content_event(step, step.call.build()))
        return told + self._close(step)

    def _item(self, step: _OpenStep, item: Any) -> list[_Event]:
        """A content item that is there from the start of its step; its text is a delta all the same."""
        if not isinstance(item, dict):
            return []
        kind = type_of(item)
        if kind in MEDIA_TYPES:
            return self._content_delta(step, item)
        text = item.get("text")
        if kind != "text" or not isinstance(text, str):
            return [*self._close(step), self._open(step, item)]
        rest = {member: value for member, value in item.items() if member not in ("text", "annotations")}
        told = [
            *self._close(step),
            self._open(step, rest),
            _content_event(step, {"type": "text", "text": text}),
        ]
        if "annotations" in item:
            told.append(_content_event(step, {"type": "text_annotation", "annotations": item["annotations"]}))
        return told

    def _content_delta(self, step: _OpenStep, delta: dict[str, Any]) -> list[_Event]:
        kind = type_of(delta)
        if kind == step.kind:
            # Members of the step itself, for which the legacy form has no place.
            return []
        if kind == "text_annotation_delta":
            delta = {**delta, "type": "text_annotation"}
        told: list[_Event] = []
        content_type = "text" if kind in ("text", "text_annotation", "text_annotation_delta") else kind
        if content_type in MEDIA_TYPES or step.index is None or step.content_type != content_type == "text":
            told = [*self._close(step), self._open(step, {"type": content_type})]
        return [*told, _content_event(step, delta)]

    def _thought(self, step: _OpenStep, thought: dict[str, Any]) -> list[_Event]:
        rest = dict(thought)
        deltas: list[dict[str, Any]] = []
        if isinstance(thought.get("summary"), list) and thought["summary"]:
            deltas.extend({"type": "thought_summary", "content": item} for item in rest.pop("summary"))
        if isinstance(thought.get("signature"), str) and thought["signature"]:
            deltas.append({"type": "thought_signature", "signature": rest.pop("signature")})
        return [self._open(step, rest), *(_content_event(step, delta) for delta in deltas)]

    def _open(self, step: _OpenStep, content: dict[str, Any]) -> _Event:
        step.index = self._next_index
        step.content_type = type_of(content)
        self._next_index += 1
        return {"event_type": "content.start", "index": step.index, "content": content}

    def _close(self, step: _OpenStep) -> list[_Event]:
        if step.index is None:
            return []
        stop = {"event_type": "content.stop", "index": step.index}
        step.index = None
        return [stop]


def _content_event(step: _OpenStep, delta: dict[str, Any]) -> _Event:
    return {"event_type": "content.delta", "index": step.index, "delta": delta}


def _with_legacy_status(value: dict[str, Any]) -> dict[str, Any]:
    status = value.get("status")
    translated = legacy_status(status)
    return value if translated == status else {**value, "status": translated}
