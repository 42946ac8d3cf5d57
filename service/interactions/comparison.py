"""Two interactions side by side: what the first came to, what the second did, and whether that is the same."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

from service.interactions.outcomes import steps_of
from service.interactions.render import of_record
from service.store.records import Record
from service.store.replays import Figures
from service.wire import ids
from service.wire.steps import content_list

_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "thought_tokens",
    "cached_tokens",
    "tool_use_tokens",
    "total_tokens",
)
_NANOS: Final = 1_000_000_000
_UNENDED: Final = "\n\\ No newline at end of text"


def compare(
    original: Record, original_figures: Figures, replay: Record, replay_figures: Figures
) -> dict[str, Any]:
    """Status, text (with a unified diff), tool calls, usage, cost in dollars and latency in milliseconds of both."""
    first, second = of_record(original), of_record(replay)
    return {
        "status": _pair(original.status, replay.status),
        "errors": _pair(_error(original), _error(replay)),
        "text": _texts(original, first, replay, second),
        "tool_calls": _pair(_calls(first), _calls(second)),
        "usage": _figures(_usage(original_figures), _usage(replay_figures)),
        "cost": _cost(original_figures, replay_figures),
        "latency": _figures(_latency(original_figures), _latency(replay_figures)),
    }


def text_of(interaction: dict[str, Any]) -> str:
    """All text of the model's outputs."""
    return "".join(
        part.get("text", "")
        for step in steps_of(interaction)
        if step.get("type") == "model_output"
        for part in content_list(step.get("content"))
        if isinstance(part, dict) and isinstance(part.get("text", ""), str)
    )


def _pair(original: Any, replay: Any) -> dict[str, Any]:
    return {"original": original, "replay": replay, "same": _alike(original, replay)}


def _alike(first: Any, second: Any) -> bool:
    """Whether two values are the same in JSON, where ``true`` is not 1."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_alike(first[name], second[name]) for name in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_alike, first, second))
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def _texts(original: Record, first: dict[str, Any], replay: Record, second: dict[str, Any]) -> dict[str, Any]:
    before, after = text_of(first), text_of(second)
    diff = unified_diff(before, after, ids.to_text(original.id), ids.to_text(replay.id))
    return {"same": before == after, "diff": diff}


def unified_diff(before: str, after: str, name: str, new_name: str) -> str:
    """How two texts differ, line by line; empty only for texts that are the same.

    Lines end at a line feed and nowhere else. Where only one text has its last line ended, the other says so.
    """
    marked = before.endswith("\n") != after.endswith("\n")
    lines = difflib.unified_diff(_lines(before, marked), _lines(after, marked), name, new_name, lineterm="")
    return "\n".join(lines)


def _lines(text: str, marked: bool) -> list[str]:
    lines = text.removesuffix("\n").split("\n") if text else []
    if lines and marked and not text.endswith("\n"):
        lines[-1] += _UNENDED
    return lines


def _calls(interaction: dict[str, Any]) -> list[dict[str, Any]]:
    """Which functions were called with what; the ids of calls differ each time."""
    return [
        {"name": step.get("name"), "arguments": step.get("arguments")}
        for step in steps_of(interaction)
        if step.get("type") == "function_call"
    ]


def _error(record: Record) -> dict[str, Any] | None:
    if record.error_code is None:
        return None
    return {"code": record.error_code, "message": record.error_message or ""}


def _usage(figures: Figures) -> dict[str, int | None]:
    return {name: getattr(figures, name) for name in _TOKENS}


def _latency(figures: Figures) -> dict[str, int | None]:
    return {
        "first_byte_ms": _milliseconds(figures.created_at, figures.first_byte_at),
        "total_ms": _milliseconds(figures.created_at, figures.completed_at),
    }


def _milliseconds(start: int, end: int | None) -> int | None:
    return None if end is None else max(end - start, 0) // 1000


def _figures(original: dict[str, int | None], replay: dict[str, int | None]) -> dict[str, Any]:
    return {
        "original": original,
        "replay": replay,
        "difference": {name: _difference(original[name], replay[name]) for name in original},
    }


def _cost(original: Figures, replay: Figures) -> dict[str, Any]:
    difference = _difference(original.cost_nanos, replay.cost_nanos)
    names = ("original", "replay", "difference")
    values: Iterable[int | None] = (original.cost_nanos, replay.cost_nanos, difference)
    return {
        name: None if value is None else value / _NANOS for name, value in zip(names, values, strict=True)
    }


def _difference(original: int | None, replay: int | None) -> int | None:
    return None if original is None or replay is None else replay - original
