"""Flat ``outputs`` beside steps (contract 1.4): what they say that the steps do not, and where it belongs.

A stream may tell all of its answer as steps, a part of it or nothing, and repeat it in the ``outputs`` of its last
event, cut into other pieces and with other members. So what steps say of a type is taken to be all of that type:
nothing comes twice, and the outputs themselves stay in the record as they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from service.wire.legacy import outputs_to_steps, steps_to_outputs
from service.wire.steps import text_content, type_of

_Item = dict[str, Any]


def unsaid(outputs: Any, steps: Iterable[Any]) -> list[_Item]:
    """The steps behind those of the ``outputs`` whose type no step says anything of, in their order.

    What is no output, and a text that says nothing, is left out.
    """
    if not isinstance(outputs, list) or not outputs:
        return []
    given = [text_content(output) if isinstance(output, str) else output for output in outputs]
    told = [output for output in given if isinstance(output, dict)]
    said = {type_of(item) for item in _saying(steps)}
    return outputs_to_steps([item for item in _saying(outputs_to_steps(told)) if type_of(item) not in said])


def among(told: Iterable[_Item], made: Iterable[_Item]) -> list[_Item]:
    """The steps of a flat answer, which are all content, among those that a stream has told, which may be others."""
    rest = deque(made)
    found = [rest.popleft() if rest and type_of(rest[0]) == type_of(step) else step for step in told]
    return [*found, *rest]


def _saying(steps: Iterable[Any]) -> list[_Item]:
    """What steps say, in terms of outputs."""
    items: list[Any] = steps_to_outputs([step for step in steps if isinstance(step, dict)])
    return [
        item for item in items if isinstance(item, dict) and (type_of(item) != "text" or item.get("text"))
    ]
