"""The legacy generation as a view of the steps generation (contract 1.4, 2.2, 3.2 and 5.6).

Upstream and the store know steps only. Legacy requests become steps on their way in, and interactions become
legacy on their way out. Nothing here changes its argument; what is not translated is shared with it.
"""

from __future__ import annotations

from typing import Any

from service.errors import InvalidRequest
from service.wire.steps import content_list, group_content, is_content, made_steps, normalise_input, type_of

_FORMAT_TYPES = frozenset({"text", "image", "audio", "video"})
_ENUM_PREFIXES = {"thinking_summaries": "THINKING_SUMMARIES_", "thinking_level": "THINKING_LEVEL_"}
#: A state that legacy clients have no word for, and the one that keeps their polling loops going.
_LEGACY_STATUS = {"queued": "in_progress"}


def request_to_steps(body: dict[str, Any]) -> dict[str, Any]:
    """A create request of the legacy generation in terms of steps; one that is in them already stays equal.

    Turns become steps, ``response_mime_type`` goes into ``response_format``, and the spellings that legacy
    clients used (``excludedPredefinedFunctions``, ``THINKING_SUMMARIES_AUTO``, ``TEXT``) become today's.
    Raises InvalidRequest for a turn that is neither the user's nor the model's or has no content.
    """
    request = dict(body)
    if "input" in body:
        request["input"] = _input(body["input"])
    if isinstance(body.get("response_mime_type"), str):
        _fold_mime_type(request)
    if isinstance(body.get("tools"), list):
        request["tools"] = [_tool(tool) for tool in body["tools"]]
    for name in ("generation_config", "agent_config"):
        if isinstance(body.get(name), dict):
            request[name] = {member: _enum(member, value) for member, value in body[name].items()}
    if isinstance(body.get("response_modalities"), list):
        request["response_modalities"] = [_lower(item) for item in body["response_modalities"]]
    return request


def steps_to_outputs(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ``outputs`` of an answer: what ``model_output`` contains, and every other step but ``user_input``.

    The legacy form has no place for a ``model_output`` step's other members and for where one ends and the
    next begins.
    """
    outputs: list[dict[str, Any]] = []
    for step in steps:
        kind = step.get("type")
        if kind == "model_output":
            outputs.extend(content_list(step.get("content")))
        elif kind != "user_input":
            outputs.append(step)
    return outputs


def outputs_to_steps(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps behind ``outputs``: a run of text and media is one ``model_output``, the rest are steps."""
    return group_content(outputs, "model_output", where="outputs")


def interaction_to_legacy(interaction: dict[str, Any]) -> dict[str, Any]:
    """The legacy body of an interaction: ``outputs`` and ``role`` for ``steps``, ``total_reasoning_tokens``.

    ``outputs`` is what the model made, also where the steps show the input before it. An interaction
    without steps, one still running, has no outputs; a model that answered in outputs keeps them.
    """
    legacy = {member: value for member, value in interaction.items() if member != "steps"}
    legacy["object"] = interaction.get("object") or "interaction"
    legacy["role"] = "model"
    if isinstance(interaction.get("steps"), list):
        legacy["outputs"] = steps_to_outputs(made_steps(interaction))
    if "status" in legacy:
        legacy["status"] = legacy_status(legacy["status"])
    usage = interaction.get("usage")
    if isinstance(usage, dict):
        legacy["usage"] = _usage(usage)
    return legacy


def interaction_with_both(interaction: dict[str, Any]) -> dict[str, Any]:
    """The steps body with ``object``, ``role`` and ``outputs``, for callers that show neither generation."""
    both = dict(interaction)
    both["object"] = interaction.get("object") or "interaction"
    both["role"] = "model"
    outputs = interaction.get("outputs")
    if isinstance(interaction.get("steps"), list):
        both["outputs"] = steps_to_outputs(made_steps(interaction))
    elif isinstance(outputs, list):
        both["steps"] = outputs_to_steps(outputs)
    return both


def legacy_status(status: Any) -> Any:
    """A status in words that legacy clients know, where leaving it would break them."""
    return _LEGACY_STATUS.get(status, status) if isinstance(status, str) else status


def _input(value: Any) -> Any:
    if isinstance(value, dict):
        if _is_turn(value):
            return _turn(value, "input")
        return value if is_content(value) else [value]
    if not isinstance(value, list):
        return value
    if any(_is_turn(item) for item in value):
        return [step for position, item in enumerate(value) for step in _turn(item, f"input[{position}]")]
    # A legacy list may hold text beside a function_result; today's input is all content or all steps.
    mixed = any(is_content(item) for item in value) and not all(is_content(item) for item in value)
    return normalise_input(value) if mixed else value


def _is_turn(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item and item.get("type") is None


def _turn(turn: Any, where: str) -> list[dict[str, Any]]:
    if not _is_turn(turn):
        return normalise_input([turn])
    role = turn["role"]
    if role not in ("user", "model"):
        raise InvalidRequest(
            f"The value '{role}' is not supported for 'role' at '{where}'. Use 'user' or 'model'."
        )
    content = turn.get("content")
    if not isinstance(content, str | list | dict):
        raise InvalidRequest(f"Missing 'content' at '{where}'. Expected a string or an array.")
    step_type = "user_input" if role == "user" else "model_output"
    return group_content(content_list(content), step_type, where=f"{where}.content")


def _fold_mime_type(request: dict[str, Any]) -> None:
    known = request.get("response_format")
    if isinstance(known, list) or (isinstance(known, dict) and type_of(known) in _FORMAT_TYPES):
        return
    mime_type = request.pop("response_mime_type")
    family = mime_type.partition("/")[0]
    form = {"type": family if family in _FORMAT_TYPES else "text", "mime_type": mime_type}
    request["response_format"] = form if known is None else {**form, "schema": known}


def _tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or "excludedPredefinedFunctions" not in tool:
        return tool
    renamed = dict(tool)
    excluded = renamed.pop("excludedPredefinedFunctions")
    renamed.setdefault("excluded_predefined_functions", excluded)
    return renamed


def _enum(member: str, value: Any) -> Any:
    prefix = _ENUM_PREFIXES.get(member)
    if prefix is None or not isinstance(value, str):
        return value
    return value.removeprefix(prefix).lower()


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    if "total_thought_tokens" not in usage or "total_reasoning_tokens" in usage:
        return usage
    return {**usage, "total_reasoning_tokens": usage["total_thought_tokens"]}
