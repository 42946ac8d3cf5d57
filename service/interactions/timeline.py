"""What of upstream's timeline is the interaction's own.

A GET shows the input as the first steps of the timeline (contract 3.3: possible, not guaranteed). After a rebuild that
input is the conversation so far, which belongs to the interactions before this one: it was not in the caller's request,
and keeping it in every link would make a chain grow with the square of what was said.
"""

from __future__ import annotations

from typing import Any

import orjson

from service.interactions.outcomes import steps_of
from service.wire import legacy, steps
from service.wire.flat_outputs import among, unsaid

Step = dict[str, Any]


def was_rebuilt(attempts: str | None) -> bool:
    """Whether the attempts of a record say that upstream was sent the whole conversation at last."""
    made = orjson.loads(attempts) if attempts else []
    return bool(made) and made[-1].get("history") == "rebuilt"


def without_history(body: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """The body by GET of a rebuilt interaction as it would be had its request been the caller's, ``request``."""
    timeline = body.get("steps")
    if not isinstance(timeline, list):
        return body
    asked = steps.normalise_input(legacy.request_to_steps(request).get("input") or [])
    end = end_of_input(timeline, asked)
    return {**body, "steps": [*asked, *timeline[end:]]} if end else body


def made_of(body: dict[str, Any], request: dict[str, Any]) -> list[Step]:
    """The steps that upstream itself has made of a request, from the interaction as GET shows it."""
    timeline = steps_of(body)
    asked = steps.normalise_input(legacy.request_to_steps(request).get("input") or [])
    return timeline[end_of_input(timeline, asked) :]


def made_beside(body: dict[str, Any], request: dict[str, Any], told: list[Step]) -> list[Step]:
    """The same where a stream has told some of them: a flat answer leaves out what is no content (contract 1.4)."""
    made, outputs = made_of(body, request), body.get("outputs")
    if not outputs:
        return made
    return made + unsaid(outputs, made) if body.get("steps") else among(told, made)


def end_of_input(timeline: list[Any], asked: list[Step]) -> int:
    """Where the model's own steps begin: behind the latest place that says what was asked."""
    if end := _end_of_last(timeline, asked):
        return end
    if not any(steps.type_of(step) in steps.CLIENT_TYPES for step in timeline):
        # It does not show the input.
        return 0
    if end := _end_of_last(_compact(timeline), _compact(asked)):
        return end
    # Upstream tells it in other words. No model makes a user's turn, or the result of a call that its client answers.
    calls = [step.get("call_id") for step in asked if step.get("type") == "function_result"]
    return max((n for n, step in enumerate(timeline, start=1) if _is_asked(step, calls)), default=0)


def _end_of_last(timeline: list[Any], asked: list[Step]) -> int:
    size = len(asked)
    for start in range(len(timeline) - size, -1, -1) if size else ():
        if timeline[start : start + size] == asked:
            return start + size
    return 0


def _compact(value: Any) -> Any:
    """Without null members, which upstream does not repeat."""
    if isinstance(value, dict):
        return {name: _compact(part) for name, part in value.items() if part is not None}
    return [_compact(part) for part in value] if isinstance(value, list) else value


def _is_asked(step: Any, calls: list[Any]) -> bool:
    kind = steps.type_of(step)
    return kind == "user_input" or (kind == "function_result" and step.get("call_id") in calls)
