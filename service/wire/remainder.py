"""What has to be told further when a stream was lost and upstream has given the whole interaction instead.

A client keeps what it was told, so the missing part must continue exactly that (contract 4.4): every
continuation is tried on what was told before it is offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from service.wire import regenerate
from service.wire.assembler import Assembler
from service.wire.partial_json import completion
from service.wire.steps import IDENTITY, TOOL_TYPES, type_of

_Step = dict[str, Any]
_Deltas = list[dict[str, Any]]

#: Lists of a step whose items have members of their own.
_ITEM_LISTS: Final = ("content", "summary")


def remainder(told: Assembler, whole: dict[str, Any], *, lost: bool = False) -> list[dict[str, Any]] | None:
    """The events, without ids, that lead from what was told to the whole; None if none do.

    ``told`` has been fed every event that was told, and ``whole`` is the finished interaction with the model's
    own steps only. The events end in the one that ends the interaction, unless that was told as well; ``lost`` says
    that upstream has not ended it. Nothing leads on from a step that says something else than the whole, or lacks a
    part though it has stopped; members that are null or empty are no difference, since upstream leaves them out of one
    form or the other.
    """
    steps = whole.get("steps") or []
    try:
        continued = list(_continuations(told, steps))
    except (_DiffersError, RecursionError):
        return None
    if told.terminal:
        return [] if len(told.indices) == len(steps) and not any(continued) else None
    events = [] if told.begun or told.indices else list(regenerate.opening(whole))
    events += _leading_on(told, steps, continued)
    return [*events, regenerate.last_event(whole, lost=lost)]


def untold_of(told: Assembler, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events that lead from what was told to these steps, which the end itself has brought; none if none do."""
    try:
        continued = list(_continuations(told, steps))
    except (_DiffersError, RecursionError):
        return []
    if len(told.indices) == len(steps) and not any(continued):
        return []
    return _leading_on(told, steps, continued)


def _leading_on(told: Assembler, steps: list[Any], continued: list[_Deltas]) -> list[dict[str, Any]]:
    """The rest of the steps that have begun, and all of the others."""
    indices = told.indices
    events: list[dict[str, Any]] = []
    for index, deltas in zip(indices, continued, strict=True):
        events += [{"event_type": "step.delta", "index": index, "delta": delta} for delta in deltas]
        if told.is_open(index):
            events.append({"event_type": "step.stop", "index": index})
    following = indices[-1] + 1 if indices else 0
    for index, step in enumerate(steps[len(indices) :], following):
        events += regenerate.step_events(index, step)
    return events


class _DiffersError(Exception):
    """No continuation of what was told says the whole."""


def _continuations(told: Assembler, steps: list[Any]) -> Iterator[_Deltas]:
    """The missing deltas of each step that has begun."""
    indices = told.indices
    if len(indices) > len(steps):
        raise _DiffersError
    for index, whole in zip(indices, steps, strict=False):
        step = told.step(index)
        if step is None or not isinstance(whole, dict):
            raise _DiffersError
        if _same(step, whole):
            yield []
            continue
        if not told.is_open(index) or any(
            step.get(name) not in (None, "", whole.get(name)) for name in IDENTITY
        ):
            raise _DiffersError
        deltas = _missing(step, whole, told.arguments_text(index))
        if not _same(told.continued(index, deltas), whole):
            raise _DiffersError
        yield deltas


def _missing(told: _Step, whole: _Step, arguments: str) -> _Deltas:
    """The deltas that may make a step whole; ``arguments`` is what was told of their JSON text."""
    kind = type_of(whole)
    changed = {name: value for name, value in whole.items() if name not in told or told[name] != value}
    deltas: _Deltas = []
    if "arguments" in changed and (arguments or kind == "function_call"):
        rest = _rest_of_arguments(arguments, changed.pop("arguments"))
        deltas.append({"type": "arguments_delta", "arguments": rest})
    parts: _Step = {"type": kind}
    if kind == "model_output" and isinstance(changed.get("content"), list):
        parts["content"] = _missing_content(told.get("content"), changed.pop("content"))
    elif kind == "thought":
        if isinstance(changed.get("summary"), list):
            parts["summary"] = _rest_of_list(told.get("summary"), changed.pop("summary"))
        if isinstance(changed.get("signature"), str):
            parts["signature"] = _rest_of_text(told.get("signature"), changed.pop("signature"))
    start, further = regenerate.take_apart(parts)
    if any(start.get(name) for name in _ITEM_LISTS):
        # It can only be told from its start.
        raise _DiffersError
    return [*_members(told, changed, kind), *deltas, *further]


def _members(told: _Step, changed: _Step, kind: str) -> _Deltas:
    """A delta for members that no other delta tells: those of tools replace, strings of other steps append."""
    if kind not in TOOL_TYPES:
        changed = {
            name: _rest_of_text(told.get(name), value)
            if isinstance(value, str) and name not in IDENTITY
            else value
            for name, value in changed.items()
        }
    return [{**changed, "type": kind}] if changed else []


def _missing_content(told: Any, whole: list[Any]) -> list[Any]:
    """The content behind what was told; the end of a text that was told in part is a text."""
    if not isinstance(told, list) or not told or len(told) > len(whole):
        return _rest_of_list(told, whole)
    last, same = told[-1], whole[len(told) - 1]
    further = whole[len(told) :]
    if last == same or type_of(last) != "text" or type_of(same) != "text":
        return further
    rest = {name: value for name, value in same.items() if name not in last or last[name] != value}
    rest |= {"type": "text", "text": _rest_of_text(last.get("text"), same.get("text"))}
    if isinstance(same.get("annotations"), list):
        rest["annotations"] = _rest_of_list(last.get("annotations"), same["annotations"])
    return [rest, *further]


def _rest_of_list(told: Any, whole: list[Any]) -> list[Any]:
    return whole[len(told) :] if isinstance(told, list) else whole


def _rest_of_text(told: Any, whole: Any) -> str:
    beginning = told if isinstance(told, str) else ""
    if not isinstance(whole, str) or not whole.startswith(beginning):
        raise _DiffersError
    return whole[len(beginning) :]


def _rest_of_arguments(told: str, whole: Any) -> str:
    """Arguments that are no JSON are kept as the text they are."""
    rest = _rest_of_text(told, whole) if isinstance(whole, str) else completion(told, whole)
    if rest is None:
        raise _DiffersError
    return rest


def _same(told: _Step | None, whole: _Step) -> bool:
    return told == whole or (told is not None and _plain(told) == _plain(whole))


def _plain(step: _Step) -> _Step:
    """What a step says, without placeholders for what it does not."""
    plain = _without_empty(step)
    for name in _ITEM_LISTS:
        if isinstance(plain.get(name), list):
            plain[name] = [_without_empty(item) if isinstance(item, dict) else item for item in plain[name]]
    return plain


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if item not in (None, "", [], {})}
