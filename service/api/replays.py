"""Replay over HTTP: ``POST /api/interactions/{id}/replay`` and ``GET /api/interactions/{id}/comparison``."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from service.api.endpoint import answer, check_parameters, read_body
from service.api.interactions import history_wish, upstream_headers
from service.api.keys import AUTHENTICATOR, REPLAYER
from service.errors import InvalidRequest
from service.interactions import render
from service.interactions.replay import Wish
from service.wire import codec, ids

#: Seconds that a replay is waited for, by default and at most; what runs in the background may take an hour.
_WAIT: Final = 600.0
_LONGEST_WAIT: Final = 7_200.0
_OWN: Final = ("compare", "wait")


async def replay(request: web.Request) -> web.StreamResponse:
    """Send a stored request again; answers with the new interaction and how it compares with the original.

    The body's members are changes to the request (:func:`service.interactions.replay.changed_by`), but for ``compare``
    (false leaves the comparison out) and ``wait`` (how many seconds to wait for its end).
    """
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    body = _object(await read_body(request))
    compare, wait = _compare(body), _wait(body)
    changes = {name: value for name, value in body.items() if name not in _OWN}
    wish = Wish(changes, wait, upstream_headers(request), history_wish(request))
    done = await request.app[REPLAYER].replay(principal, request.match_info["id"], wish)
    told: dict[str, Any] = {
        "interaction": render.in_revision(done.told, done.revision),
        "replay_of": ids.to_text(done.original.id),
    }
    if compare:
        told["comparison"] = done.comparison
    return answer(
        request,
        codec.dumps(told),
        interaction_id=ids.to_text(done.record.id),
        upstream_id=done.record.upstream_id,
    )


async def comparison(request: web.Request) -> web.StreamResponse:
    """A replay compared with its original as they stand now."""
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    told = await request.app[REPLAYER].comparison(principal, request.match_info["id"])
    return answer(request, codec.dumps(told))


def _object(raw: bytes) -> dict[str, Any]:
    body = codec.loads(raw) if raw else {}
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid JSON payload: expected an object of changes.")
    return body


def _compare(body: dict[str, Any]) -> bool:
    value = body.get("compare", True)
    if not isinstance(value, bool):
        raise InvalidRequest("The value is invalid for 'compare'. Expected a boolean.")
    return value


def _wait(body: dict[str, Any]) -> float:
    value = body.get("wait", _WAIT)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST_WAIT:
        raise InvalidRequest(
            f"The value is invalid for 'wait'. Expected seconds between 0 and {_LONGEST_WAIT:g}."
        )
    return float(value)
