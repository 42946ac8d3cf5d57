"""A finished interaction becomes the stream that could have told of it, for ``GET ?stream=true``.

Each step is told by deltas where deltas can tell it exactly; where they cannot (two texts in a row, members
of a type that nobody has described) the step travels whole in its ``step.start``, which the contract allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from service.errors import InvalidRequest
from service.wire import codec
from service.wire.steps import TOOL_TYPES, is_content, made_steps, type_of

#: What the ids of regenerated events begin with.
CURSOR = "replay_"

_CREATED_MEMBERS = ("id", "object", "model", "agent", "created")
_TOOL_DELTA_MEMBERS = ("arguments", "result", "is_error", "signature")

#: A step as its start and its deltas.
_Parts = tuple[dict[str, Any], list[dict[str, Any]]]


def events_of(interaction: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps-generation events of a finished interaction (contract 4.1), ids ``replay_1``, ...

    Assembling them gives exactly the steps that upstream made, without the input before them. The same
    interaction always gives the same events, so their ids are good for resuming.
    """
    for seq, event in enumerate(_events(interaction), 1):
        event["event_id"] = f"{CURSOR}{seq}"
        yield event


def after(events: Iterable[dict[str, Any]], last_event_id: str | None) -> Iterator[dict[str, Any]]:
    """The events that follow the one with this id; all of them without an id (contract 4.6).

    Raises InvalidRequest, before anything is yielded, if no event has the id.
    """
    remaining = iter(events)
    if not last_event_id:
        return remaining
    for event in remaining:
        if event.get("event_id") == last_event_id:
            return remaining
    raise InvalidRequest(
        f"The value '{last_event_id}' of 'last_event_id' is not the id of an event of this interaction."
        " Leave it out to stream from the beginning."
    )


def _events(interaction: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from opening(interaction)
    for index, step in enumerate(made_steps(interaction)):
        yield from step_events(index, step)
    yield last_event(interaction)


def opening(interaction: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events before the first step, without ids."""
    members = {name: interaction[name] for name in _CREATED_MEMBERS if interaction.get(name) is not None}
    created = {"object": "interaction", **members, "status": "in_progress"}
    yield {"event_type": "interaction.created", "interaction": created}
    update = {"event_type": "interaction.status_update", "status": "in_progress"}
    if "id" in created:
        update["interaction_id"] = created["id"]
    yield update


def step_events(index: int, step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of one step, without ids."""
    start, deltas = take_apart(step)
    yield {"event_type": "step.start", "index": index, "step": start}
    for delta in deltas:
        yield {"event_type": "step.delta", "index": index, "delta": delta}
    yield {"event_type": "step.stop", "index": index}


def last_event(interaction: dict[str, Any], *, lost: bool = False) -> dict[str, Any]:
    """The event that ends the interaction, without an id: an ``error`` where upstream has lost it (contract 4.8)."""
    errors = interaction.get("errors")
    if lost and interaction.get("status") == "failed" and isinstance(errors, list) and errors:
        return {"event_type": "error", "error": errors[0]}
    whole = {member: value for member, value in interaction.items() if member != "steps"}
    return {"event_type": "interaction.completed", "interaction": whole}


def take_apart(step: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The step as it starts, and the deltas that make it whole; what no delta can tell is in the start."""
    match type_of(step):
        case "model_output":
            return _model_output(step)
        case "thought":
            return _thought(step)
        case "function_call":
            return _function_call(step)
        case kind if kind in TOOL_TYPES:
            return _tool(step)
        case _:
            return step, []


def _model_output(step: dict[str, Any]) -> _Parts:
    content = step.get("content")
    if not isinstance(content, list) or not content:
        return step, []
    deltas: list[dict[str, Any]] = []
    previous = ""
    for item in content:
        kind = type_of(item)
        if not is_content(item) or kind == previous == "text":
            return step, []
        previous = kind
        deltas.extend(_content_deltas(item))
    return _without(step, "content"), deltas


def _content_deltas(item: dict[str, Any]) -> list[dict[str, Any]]:
    annotations = item.get("annotations")
    if item["type"] != "text" or not isinstance(annotations, list) or not annotations:
        return [item]
    return [_without(item, "annotations"), {"type": "text_annotation_delta", "annotations": annotations}]


def _thought(step: dict[str, Any]) -> _Parts:
    start = dict(step)
    deltas: list[dict[str, Any]] = []
    summary = step.get("summary")
    if isinstance(summary, list) and summary and all(_is_typed(item) for item in summary):
        del start["summary"]
        deltas.extend({"type": "thought_summary", "content": item} for item in summary)
    signature = step.get("signature")
    if isinstance(signature, str) and signature:
        del start["signature"]
        deltas.append({"type": "thought_signature", "signature": signature})
    return start, deltas


def _is_typed(item: Any) -> bool:
    return isinstance(item, dict) and "type" in item


def _function_call(step: dict[str, Any]) -> _Parts:
    arguments = step.get("arguments")
    if not isinstance(arguments, dict) or not arguments:
        return step, []
    text = codec.dumps(arguments).decode()
    return {**step, "arguments": {}}, [{"type": "arguments_delta", "arguments": text}]


def _tool(step: dict[str, Any]) -> _Parts:
    told = {member: step[member] for member in _TOOL_DELTA_MEMBERS if member in step}
    if not told:
        return step, []
    return _without(step, *told), [{"type": step["type"], **told}]


def _without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    return {member: item for member, item in value.items() if member not in names}
