"""What a caller asks of the routing of one create, in our words and in LiteLLM's.

``x-timeout`` (or ``x-litellm-timeout``) is how many seconds it waits, ``x-num-retries`` (``x-litellm-num-retries``) how
often a failed attempt may be repeated, and ``x-fallbacks``, or the member ``fallbacks`` of the body, names the models
that may stand in. None of them reaches upstream.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

from aiohttp import web
from multidict import CIMultiDictProxy

from service.errors import InvalidRequest
from service.upstream.routing.course import NO_WISHES, Wishes
from service.wire.envelope import Envelope

_TIMEOUT: Final = ("x-timeout", "x-litellm-timeout")
_RETRIES: Final = ("x-num-retries", "x-litellm-num-retries")
_FALLBACKS: Final = "x-fallbacks"
MEMBER: Final = "fallbacks"
HEADERS: Final = (*_TIMEOUT, *_RETRIES, _FALLBACKS)
_MOST_RETRIES: Final = 10
_RETRY_COUNTS: Final = frozenset(str(count) for count in range(_MOST_RETRIES + 1))


def wishes_of(request: web.Request, asked: Envelope) -> Wishes:
    """The wishes of a create; raises :class:`InvalidRequest` naming the header or member."""
    headers = request.headers
    timeout, retries = _timeout(headers), _retries(headers)
    fallbacks = _fallbacks(headers, asked)
    if timeout is None and retries is None and fallbacks is None:
        return NO_WISHES
    return Wishes(timeout, retries, fallbacks)


def _given(headers: CIMultiDictProxy[str], names: tuple[str, ...]) -> tuple[str, str] | None:
    for name in names:
        if (value := headers.get(name)) is not None:
            return name, value
    return None


def _timeout(headers: CIMultiDictProxy[str]) -> float | None:
    if (given := _given(headers, _TIMEOUT)) is None:
        return None
    name, value = given
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not isfinite(seconds) or seconds <= 0:
        raise InvalidRequest(f"The header '{name}' says {value[:40]!r}; send a number of seconds above 0.")
    return seconds


def _retries(headers: CIMultiDictProxy[str]) -> int | None:
    if (given := _given(headers, _RETRIES)) is None:
        return None
    name, value = given
    if value not in _RETRY_COUNTS:
        raise InvalidRequest(
            f"The header '{name}' says {value[:40]!r}; send a whole number from 0 to {_MOST_RETRIES}."
        )
    return int(value)


def _fallbacks(headers: CIMultiDictProxy[str], asked: Envelope) -> tuple[str, ...] | None:
    listed = headers.get(_FALLBACKS)
    if listed is not None:
        return tuple(name for part in listed.split(",") if (name := part.strip()))
    named = asked.body.get(MEMBER)
    if named is None:
        return None
    if not isinstance(named, list):
        raise InvalidRequest(f"'{MEMBER}' must be a list of model names.")
    return tuple(name for item in named for name in _names(item, asked.model))


def _names(item: Any, model: str | None) -> list[str]:
    """A name, or LiteLLM's mapping of models to theirs, of which the one asked for counts."""
    if isinstance(item, str):
        return [item]
    if isinstance(item, dict):
        named = item.get(model, [])
        if isinstance(named, list) and all(isinstance(name, str) for name in named):
            return named
    raise InvalidRequest(
        f"'{MEMBER}' must be a list of model names, or of mappings from a model to such a list."
    )
