"""The shapes of `input`, checked and brought to one: a list of steps (contract 2.2)."""

from __future__ import annotations

from typing import Any

from service.emulator import shapes
from service.emulator.checks import unknown, unsupported, wrong_type
from service.errors import InvalidRequest

Step = dict[str, Any]

TURN_LIST = "When using the steps-based API version, use step_list input format instead of turn_list."
_EMPTY = "Request has empty input."


def steps_of(value: Any) -> list[Step]:
    """The steps that `value` means.

    Raises InvalidRequest and ParameterUnknown with upstream's messages for everything upstream refuses.
    """
    if value is None:
        raise InvalidRequest("Missing input.")
    if isinstance(value, str):
        return [_user([{"type": "text", "text": _not_empty(value)}])]
    if isinstance(value, dict):
        shapes.content(value, "", "input")
        return [_user([_compact(value)])]
    if not isinstance(value, list):
        raise wrong_type(value, "", "input", "array")
    return _steps_of_list(_not_empty(value))


def _not_empty(value: Any) -> Any:
    if not value:
        raise InvalidRequest(_EMPTY)
    return value


def _steps_of_list(items: list[Any]) -> list[Step]:
    """Steps as they are; every run of bare content becomes one `user_input`."""
    steps: list[Step] = []
    loose: list[Any] | None = None
    for index, item in enumerate(items):
        name = f"input[{index}]"
        _refuse_turns(item, name)
        if item.get("type") in shapes.CONTENT:
            shapes.CONTENT[item["type"]](item, "", name)
            if loose is None:
                loose = []
                steps.append(_user(loose))
            loose.append(_compact(item))
        else:
            shapes.step(item, "", name)
            steps.append(_step(item))
            loose = None
    return steps


def _refuse_turns(item: Any, name: str) -> None:
    if not isinstance(item, dict):
        raise wrong_type(item, "", name, "object")
    if "parts" in item:
        raise unknown("parts", name)
    if "type" not in item:
        if "role" in item:
            raise InvalidRequest(TURN_LIST)
        raise unsupported("", name, "type")


def _step(item: Step) -> Step:
    """The step without null members and with its content as a list."""
    step = _compact(item)
    content = step.get("content")
    if step["type"] not in ("user_input", "model_output"):
        return step
    if isinstance(content, str):
        step["content"] = [{"type": "text", "text": content}]
    elif content is not None:
        step["content"] = [_compact(part) for part in content]
    if step["type"] == "user_input" and not content:
        raise InvalidRequest(_EMPTY)
    return step


def _user(content: list[Any]) -> Step:
    return {"type": "user_input", "content": content}


def _compact(item: Step) -> Step:
    if None in item.values():
        return {name: value for name, value in item.items() if value is not None}
    return dict(item)
