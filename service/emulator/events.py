"""Steps as the events that a stream sends (contract 4.1 to 4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from service.emulator.inputs import Step
from service.emulator.prose import pieces

Event = dict[str, Any]

#: Members that are known when a step starts; everything else comes in deltas.
_KNOWN_AT_START = frozenset({"type", "id", "call_id", "name", "server_name", "error"})
_ARGUMENT_PIECES = 3


def events_of(index: int, step: Step, fragments: int = 1) -> Iterator[Event]:
    """Start, deltas and stop of one step; signatures of thoughts come in `fragments`."""
    started = {name: value for name, value in step.items() if name in _KNOWN_AT_START}
    started.update(_placeholders(step))
    yield {"index": index, "step": started, "event_type": "step.start"}
    for delta in _deltas(step, fragments):
        yield {"index": index, "delta": delta, "event_type": "step.delta"}
    yield {"index": index, "event_type": "step.stop"}


def cut_text(text: str, count: int) -> list[str]:
    """`text` in at most `count` parts of about the same length."""
    size = max(1, -(-len(text) // count))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _placeholders(step: Step) -> Step:
    kind = step["type"]
    if kind == "function_call":
        # The signature of a call has no delta of its own.
        kept = {"signature": step["signature"]} if "signature" in step else {}
        return {"arguments": {}, **kept}
    if kind == "mcp_server_tool_call":
        return {"arguments": {}}
    return {"signature": ""} if "signature" in step and kind != "thought" else {}


def _deltas(step: Step, fragments: int) -> Iterator[Event]:
    kind = step["type"]
    if kind == "model_output":
        for content in step.get("content", ()):
            yield from _content_deltas(content)
    elif kind == "thought":
        for part in step.get("summary", ()):
            yield {"content": part, "type": "thought_summary"}
        for fragment in cut_text(step["signature"], fragments):
            yield {"signature": fragment, "type": "thought_signature"}
    elif kind == "function_call":
        for fragment in cut_text(orjson.dumps(step["arguments"]).decode(), _ARGUMENT_PIECES):
            yield {"arguments": fragment, "type": "arguments_delta"}
    else:
        yield _whole(step)


def _content_deltas(content: dict[str, Any]) -> Iterator[Event]:
    if content["type"] != "text":
        yield content
        return
    for piece in pieces(content["text"]):
        yield {"text": piece, "type": "text"}
    if annotations := content.get("annotations"):
        yield {"annotations": annotations, "type": "text_annotation_delta"}


def _whole(step: Step) -> Event:
    """A tool's step in one delta: signature first, as upstream writes it, then the rest."""
    rest = {name: value for name, value in step.items() if name not in ("id", "call_id")}
    kind = rest.pop("type")
    signed = {"signature": rest.pop("signature")} if "signature" in rest else {}
    return {**signed, "type": kind, **rest}
