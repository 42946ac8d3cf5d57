"""What a request asks, apart from how it is written and delivered: two requests with one canonical form ask the same.

The form is in steps, whichever generation the request is of. Left out are members that are null, and those that change
how an answer is delivered, kept or accounted for and not what it is (``stream``, ``store``, ``background``, ``labels``,
``webhook_config``, ``fallbacks``). A model's name has no prefix. The ids that join results to their calls, those of
functions and of tools upstream, are names that the model made up, different each time: they are numbered in the order
in which they come. The conversation before it is told by what was asked in that, not by the id of one of the times that
it was.

Digests are stored, so what versions before took for the form of a request is known here as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from service.wire import legacy, steps
from service.wire.model_names import bare_name

_EARLIER_DELIVERY: Final = frozenset(
    {"stream", "store", "background", "labels", "webhook_config", "previous_interaction_id"}
)
_DELIVERY: Final = _EARLIER_DELIVERY | {"fallbacks"}
_EARLIER_CALL_IDS: Final = {"function_call": "id", "function_result": "call_id"}
#: By how the types of steps end (contract 5.1).
_CALL_IDS: Final = {"call": "id", "result": "call_id"}
_DIGEST: Final = 16
#: Beyond this not every integer has a double of its own.
_EXACT: Final = 2.0**53


class Digests(NamedTuple):
    """The digest of a request, and the one that versions before have made of it, which may be the same."""

    now: bytes
    earlier: bytes


def digest(project_id: bytes, body: dict[str, Any], link: bytes | None) -> bytes:
    """The digest of a request of a project; ``link`` is the digest of the request that it follows.

    Raises :class:`~service.errors.InvalidRequest` for an ``input`` that has no form in steps.
    """
    return _digest(project_id, canonical(body), link)


def digests(project_id: bytes, body: dict[str, Any], link: bytes | None) -> Digests:
    """Every digest that may be stored of such a request; raises as :func:`digest` does."""
    form, earlier = canonical(body), _earlier(body)
    made = _digest(project_id, form, link)
    return Digests(made, made if form == earlier else _digest(project_id, earlier, link))


def canonical(body: dict[str, Any]) -> dict[str, Any]:
    """The canonical form of a request, without the conversation before it; raises as :func:`digest` does."""
    return _form(body, _DELIVERY, _member)


def _earlier(body: dict[str, Any]) -> dict[str, Any]:
    """The form before the ids of all tools were numbered, and ``fallbacks`` was left out."""
    return _form(body, _EARLIER_DELIVERY, lambda kind: _EARLIER_CALL_IDS.get(kind, ""))


def _member(kind: str) -> str:
    """Where a step of this type has the id of a call, if anywhere."""
    return _CALL_IDS.get(kind.rpartition("_")[2], "")


def _digest(project_id: bytes, form: dict[str, Any], link: bytes | None) -> bytes:
    hashed = blake2b(link or b"", digest_size=_DIGEST, key=project_id, person=b"request")
    hashed.update(_text(form))
    return hashed.digest()


def _form(body: dict[str, Any], left_out: Collection[str], member_of: Callable[[str], str]) -> dict[str, Any]:
    request = legacy.request_to_steps(body)
    form = {
        name: _plain(value)
        for name, value in request.items()
        if value is not None and name not in left_out and name != "input"
    }
    if isinstance(model := form.get("model"), str):
        form["model"] = bare_name(model)
    if request.get("input") is not None:
        given = [_plain(step) for step in steps.normalise_input(request["input"])]
        form["input"] = _numbered(given, member_of)
    return form


def _numbered(given: list[Any], member_of: Callable[[str], str]) -> list[Any]:
    numbers: dict[str, int] = {}
    for step in given:
        member = member_of(steps.type_of(step))
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
