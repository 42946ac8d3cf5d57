"""What a request asks, apart from how it is written and delivered: two requests with one canonical form ask the same.

The form is in steps, whichever generation the request is of. Left out are members that are null, and those that change
how an answer is delivered, kept or accounted for and not what it is (``stream``, ``store``, ``background``, ``labels``,
``webhook_config``, ``fallbacks``). A model's name has no prefix. The ids that join results to their calls, those of
functions and of tools upstream, are names that the model made up, different each time: they are numbered in the order
in which they come. The conversation before it is told by what was asked in that, not by the id of one of the times that
it was.

Digests are stored: whoever changes the form has a migration forget them, and they are made anew.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, Final

import orjson

from service.wire import legacy, steps
from service.wire.model_names import bare_name

_DELIVERY: Final = frozenset(
    {"stream", "store", "background", "labels", "webhook_config", "fallbacks", "previous_interaction_id"}
)
#: By how the types of steps end (contract 5.1).
_CALL_IDS: Final = {"call": "id", "result": "call_id"}
_DIGEST: Final = 16
#: Beyond this not every integer has a double of its own.
_EXACT: Final = 2.0**53


def digest(project_id: bytes, body: dict[str, Any], link: bytes | None) -> bytes:
    """The digest of a request of a project; ``link`` is the digest of the request that it follows.

    Raises :class:`~service.errors.InvalidRequest` for an ``input`` that has no form in steps.
    """
    hashed = blake2b(link or b"", digest_size=_DIGEST, key=project_id, person=b"request")
    hashed.update(_text(canonical(body)))
    return hashed.digest()


def canonical(body: dict[str, Any]) -> dict[str, Any]:
    """The canonical form of a request, without the conversation before it; raises as :func:`digest` does."""
    request = legacy.request_to_steps(body)
    form = {
        name: _plain(value)
        for name, value in request.items()
        if value is not None and name not in _DELIVERY and name != "input"
    }
    if isinstance(model := form.get("model"), str):
        form["model"] = bare_name(model)
    if request.get("input") is not None:
        form["input"] = _numbered([_plain(step) for step in steps.normalise_input(request["input"])])
    return form


def _numbered(given: list[Any]) -> list[Any]:
    numbers: dict[str, int] = {}
    for step in given:
        member = _CALL_IDS.get(steps.type_of(step).rpartition("_")[2], "")
        if isinstance(name := step.get(member), str):
            step[member] = numbers.setdefault(name, len(numbers))
    return given


def _plain(value: Any) -> Any:
    """A copy of the value in which a whole number is an integer, however it was written."""
    match value:
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float() if value.is_integer() and -_EXACT < value < _EXACT:
            return int(value)
        case _:
            return value


def _text(form: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(form, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # An integer beyond 64 bits.
        return json.dumps(form, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
