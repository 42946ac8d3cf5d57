"""Steps, the canonical content form: vocabulary, the shapes an ``input`` may take, the text of an answer.

Step types that are not listed here exist and more will come (contract 2.2 and 5.1): they are carried
untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from service.errors import InvalidRequest

#: Content that arrives whole (contract 5.2).
MEDIA_TYPES: Final = frozenset({"image", "audio", "video", "document"})
#: What ``user_input`` and ``model_output`` contain; everything else with a type is a step.
CONTENT_TYPES: Final = MEDIA_TYPES | {"text"}
#: Steps that come from a client; an agent's own sandbox makes results as well (contract 5.1).
CLIENT_TYPES: Final = frozenset({"user_input", "function_result"})
#: Members of an interaction that has a sandbox.
_OF_SANDBOXES: Final = ("agent", "environment", "environment_id")
#: Steps that hold a list of content.
MESSAGE_TYPES: Final = frozenset({"user_input", "model_output"})

_TOOLS = (
    "code_execution",
    "url_context",
    "google_search",
    "google_maps",
    "file_search",
    "mcp_server_tool",
    "retrieval",
    "tool_search",
    "processing",
)
#: Steps whose deltas carry whole members (contract 4.4); ``function_call`` is not one of them.
TOOL_TYPES: Final = frozenset(f"{tool}_{part}" for tool in _TOOLS for part in ("call", "result")) | {
    "function_result"
}
#: Members that say which call or result a step is; they never arrive in fragments.
IDENTITY: Final = frozenset({"type", "id", "call_id", "name", "server_name"})

_STEP_OF_DELTA = {
    "text": "model_output",
    "text_annotation_delta": "model_output",
    "text_annotation": "model_output",
    "thought_summary": "thought",
    "thought_signature": "thought",
    "arguments_delta": "function_call",
} | dict.fromkeys(MEDIA_TYPES, "model_output")


def text_content(text: str) -> dict[str, Any]:
    """A text content object."""
    return {"type": "text", "text": text}


def type_of(value: Any) -> str:
    """The type of a step, a content or a delta; empty if it has none."""
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else ""


def is_content(value: Any) -> bool:
    """Whether this is content, which a step contains, and not a step."""
    return type_of(value) in CONTENT_TYPES


def content_list(value: Any) -> list[Any]:
    """The content of a step or a turn as a list: of a bare string, of one object, of a list, of nothing."""
    if isinstance(value, str):
        return [text_content(value)]
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else []


def step_type_of_delta(delta: dict[str, Any]) -> str:
    """The type of step a delta belongs to, for a stream whose ``step.start`` was never seen."""
    kind = type_of(delta)
    return _STEP_OF_DELTA.get(kind, kind)


def group_content(items: Iterable[Any], step_type: str, *, where: str) -> list[dict[str, Any]]:
    """Turn a mixed list into steps: each run of content is one ``step_type``, the rest are steps already.

    Raises InvalidRequest for an item that is neither an object nor a string; ``where`` names the list.
    """
    steps: list[dict[str, Any]] = []
    run: list[dict[str, Any]] | None = None
    for position, given in enumerate(items):
        item = text_content(given) if isinstance(given, str) else given
        if not isinstance(item, dict):
            raise InvalidRequest(f"The value is invalid for '{where}[{position}]'. Expected an object.")
        if not is_content(item):
            run = None
            steps.append(_with_content_list(item))
        elif run is None:
            run = [item]
            steps.append({"type": step_type, "content": run})
        else:
            run.append(item)
    return steps


def normalise_input(value: Any) -> list[dict[str, Any]]:
    """The step list of an ``input`` of the steps generation, whichever shape it has (contract 2.2).

    A string, a content object, a list of content, a list of steps, and lists that mix the last two:
    consecutive content is one ``user_input``. A bare-string ``content`` becomes a list. Unknown step types,
    and objects without a type, stay as they are. Objects are shared with the argument, which is not changed.
    Raises InvalidRequest for anything that is not built of strings and objects.
    """
    if not isinstance(value, str | dict | list):
        raise InvalidRequest("The value is invalid for 'input'. Expected a string, an object, or an array.")
    return group_content(value if isinstance(value, list) else [value], "user_input", where="input")


def made_steps(interaction: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps that upstream made: those behind the input, which a timeline may show first (contract 3.3).

    Nobody but the client makes a user's turn, and no model makes the result of a function. A sandbox does (contract
    5.1): where there may be one, a result is the client's only if everything before it is.
    """
    told = interaction.get("steps")
    timeline: list[dict[str, Any]] = told if isinstance(told, list) else []
    in_sandbox = "model" not in interaction or any(map(interaction.get, _OF_SANDBOXES))
    start = 0
    for place, step in enumerate(timeline):
        kind = type_of(step)
        if kind == "user_input" or (kind == "function_result" and (place == start or not in_sandbox)):
            start = place + 1
    return timeline[start:]


def output_text(steps: Iterable[dict[str, Any]]) -> str:
    """The text that ends an answer (contract 3.3), as the SDKs compute it.

    The last uninterrupted run of text in ``model_output`` steps; thoughts do not interrupt it, every other
    step and every other content does. Nothing before the last ``user_input`` counts.
    """
    parts: list[str] = []
    for step in reversed(list(steps)):
        kind = type_of(step)
        if kind == "user_input" or (parts and kind not in ("thought", "model_output")):
            break
        if kind == "model_output" and not _collect_text(step.get("content"), parts):
            break
    return "".join(reversed(parts))


def _collect_text(content: Any, parts: list[str]) -> bool:
    """Add the text at the end of the content, last piece first; False if something ended the run."""
    for item in reversed(content_list(content)):
        if type_of(item) == "text":
            text = item.get("text")
            parts.append(text if isinstance(text, str) else "")
        elif parts:
            return False
    return True


def _with_content_list(step: dict[str, Any]) -> dict[str, Any]:
    if isinstance(step.get("content"), str | dict) and type_of(step) in MESSAGE_TYPES:
        return {**step, "content": content_list(step["content"])}
    return step
