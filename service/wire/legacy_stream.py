"""A stream of steps events, told to a legacy client (contract 4.5 and 5.6).

A step that holds content becomes one legacy content per item, any other step becomes one content; contents
are numbered afresh for every interaction. Arguments that arrive in fragments are held back and sent whole
when their step stops.
"""

from __future__ import annotations

from typing import Any

from service.wire.assembler import TERMINAL_EVENTS, Assembler
from service.wire.legacy import interaction_to_legacy, legacy_status
from service.wire.steps import MEDIA_TYPES, content_list, step_type_of_delta, type_of

_Event = dict[str, Any]


class _OpenStep:
    """A step that has started: the legacy content it tells, and whether that is held back until the stop."""

    __slots__ = ("content_type", "held", "index", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.held = kind == "function_call"
        self.index: int | None = None
        self.content_type = ""


class LegacyStream:
    """Translates one stream, which may hold several interactions one after the other.

    Feed it from the interaction's first event: contents are numbered, and ``interaction.complete`` carries
    the outputs. To resume, translate everything and drop what the client has seen, by the ``event_id`` of the
    translated events: each has its own, and the same events always get the same ones.
    """

    __slots__ = ("_assembler", "_next_index", "_steps")

    def __init__(self) -> None:
        self._assembler = Assembler()
        self._steps: dict[int, _OpenStep] = {}
        self._next_index = 0

    def feed(self, event: _Event) -> list[_Event]:
        """The legacy events for one steps event; none, one or several.

        The last of them has the steps event's ``event_id``, those before it have that id with ``.1``, ``.2``
        and so on behind it. Errors and unknown events are passed through as they are.
        """
        self._assembler.feed(event)
        told = self._translate(event)
        event_id = event.get("event_id")
        if event_id is None or not told or told[-1] is event:
            return told
        for part, before in enumerate(told[:-1], 1):
            before["event_id"] = f"{event_id}.{part}"
        told[-1]["event_id"] = event_id
        return told

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
        self._steps = {}
        self._next_index = 0
        members = event.get("interaction")
        interaction = dict(members) if isinstance(members, dict) else {}
        interaction.pop("steps", None)
        return [{"event_type": "interaction.start", "interaction": _with_legacy_status(interaction)}]

    def _complete(self) -> list[_Event]:
        told = [event for index in sorted(self._steps) for event in self._stop(index)]
        interaction = interaction_to_legacy(self._assembler.result())
        return [*told, {"event_type": "interaction.complete", "interaction": interaction}]

    def _start(self, event: _Event) -> list[_Event]:
        index = event.get("index")
        step = event.get("step")
        if not isinstance(index, int) or not isinstance(step, dict):
            return []
        opened = self._steps[index] = _OpenStep(type_of(step))
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
                return [self._open(opened, step)]

    def _delta(self, event: _Event) -> list[_Event]:
        delta = event.get("delta")
        index = event.get("index")
        if not isinstance(delta, dict) or not isinstance(index, int):
            return []
        told: list[_Event] = []
        step = self._steps.get(index)
        if step is None:
            step = self._steps[index] = _OpenStep(step_type_of_delta(delta))
            if step.kind not in ("model_output", "user_input"):
                told.append(self._open(step, {"type": step.kind}))
        if step.kind == "user_input":
            return told
        if step.kind == "model_output":
            return told + self._content_delta(step, delta)
        step.held = step.held or delta.get("type") == "arguments_delta"
        if not step.held:
            told.append(_content_event(step, delta))
        return told

    def _stop(self, index: Any) -> list[_Event]:
        step = self._steps.pop(index, None) if isinstance(index, int) else None
        if step is None:
            return []
        told: list[_Event] = []
        whole = self._assembler.step(index) if step.held else None
        if whole is not None:
            told.append(_content_event(step, whole))
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
