"""The admin API: what a test may ask of the emulator, and tell it, from outside.

    GET    /_emulator/clock                       {"now": 1795.., "iso": "2026-.."}
    POST   /_emulator/clock                       {"advance": seconds}
    GET    /_emulator/faults                      the queue
    POST   /_emulator/faults                      {"fault": "status;code=429", "count": 1, "skip": 0,
                                                   "match": {method, path, key, contains, stream}}, or a list
                                                  of these; count 0: until cleared
    DELETE /_emulator/faults                      clears it
    GET    /_emulator/requests[?after=N&limit=N]  the requests seen, oldest first; ?count=true: counts alone
    DELETE /_emulator/requests                    clears them
    GET    /_emulator/interactions                what is held
    POST   /_emulator/forget                      {"id": "v1_..."} or {"all": true}: lost without a trace
    POST   /_emulator/files                       {"data": base64, "mime_type": "image/png", "source":
                                                   "GENERATED" or "UPLOADED", "key": whose it is, or anybody's}:
                                                   the file, with its "uri"

Errors have the shape of all others. None of these calls is counted among the requests.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson
from aiohttp import web

from service.emulator.checks import base64_text, boolean, members, number, one_of, text
from service.emulator.clock import timestamp
from service.emulator.core import Emulator
from service.emulator.faults import fault_of
from service.emulator.files import GENERATED, UPLOADED
from service.emulator.keys import EMULATOR
from service.emulator.replies import json_reply
from service.errors import InvalidRequest

ROOT = "/_emulator"
_advance = members({"advance": number}, required=("advance",))
_forget = members({"id": text, "all": boolean})
_file = members(
    {"data": base64_text, "mime_type": text, "source": one_of(GENERATED, UPLOADED), "key": text},
    required=("data", "mime_type"),
)


def add_routes(app: web.Application) -> None:
    """Add the admin API to an emulator."""
    routes = app.router
    routes.add_get(f"{ROOT}/clock", _get_clock)
    routes.add_post(f"{ROOT}/clock", _post_clock)
    routes.add_get(f"{ROOT}/faults", _get_faults)
    routes.add_post(f"{ROOT}/faults", _post_faults)
    routes.add_delete(f"{ROOT}/faults", _delete_faults)
    routes.add_get(f"{ROOT}/requests", _get_requests)
    routes.add_delete(f"{ROOT}/requests", _delete_requests)
    routes.add_get(f"{ROOT}/interactions", _get_interactions)
    routes.add_post(f"{ROOT}/forget", _post_forget)
    routes.add_post(f"{ROOT}/files", _post_file)


async def _get_clock(request: web.Request) -> web.Response:
    return _time(request.app[EMULATOR])


async def _post_clock(request: web.Request) -> web.Response:
    body = await _object(request)
    _advance(body, "", "")
    emulator = request.app[EMULATOR]
    try:
        emulator.clock.advance(body["advance"])
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return _time(emulator)


async def _get_faults(request: web.Request) -> web.Response:
    return _reply({"faults": request.app[EMULATOR].faults.shown()})


async def _post_faults(request: web.Request) -> web.Response:
    value = await _json(request)
    wished = value if isinstance(value, list) else [value]
    faults = [fault_of(fault, f"faults[{index}]") for index, fault in enumerate(wished)]
    queue = request.app[EMULATOR].faults
    for fault in faults:
        queue.add(fault)
    return _reply({"faults": queue.shown()})


async def _delete_faults(request: web.Request) -> web.Response:
    request.app[EMULATOR].faults.clear()
    return _reply({})


async def _get_requests(request: web.Request) -> web.Response:
    seen = request.app[EMULATOR].seen
    counts = seen.counts()
    if request.query.get("count") == "true":
        return _reply(counts)
    after, limit = _whole(request, "after") or 0, _whole(request, "limit")
    return _reply({**counts, "requests": [entry.shown() for entry in seen.after(after, limit)]})


async def _delete_requests(request: web.Request) -> web.Response:
    request.app[EMULATOR].seen.clear()
    return _reply({})


async def _get_interactions(request: web.Request) -> web.Response:
    emulator = request.app[EMULATOR]
    now = emulator.clock.now()
    held = [
        {**record.head(now), "id": record.id, "key": record.key[-4:], "usage": orjson.Fragment(record.usage)}
        for record in emulator.records.all()
    ]
    return _reply({"count": len(held), "interactions": held})


async def _post_forget(request: web.Request) -> web.Response:
    body = await _object(request)
    _forget(body, "", "")
    records = request.app[EMULATOR].records
    if body.get("all"):
        return _reply({"forgotten": records.forget_all()})
    name = body.get("id")
    if name is None:
        raise InvalidRequest("Send 'id' or 'all'.")
    return _reply({"forgotten": int(records.forget(name))})


async def _post_file(request: web.Request) -> web.Response:
    body = await _object(request)
    _file(body, "", "")
    emulator = request.app[EMULATOR]
    file = emulator.files.put(
        base64.b64decode(body["data"]),
        body["mime_type"],
        emulator.clock.now(),
        key=body.get("key") or "",
        source=body.get("source") or GENERATED,
    )
    return _reply(file.resource(f"{request.scheme}://{request.host}", "v1beta"))


def _time(emulator: Emulator) -> web.Response:
    now = emulator.clock.now()
    return _reply({"now": now, "iso": timestamp(now)})


def _reply(value: Any) -> web.Response:
    return json_reply(orjson.dumps(value))


async def _json(request: web.Request) -> Any:
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"Invalid JSON payload received. {error}") from None


async def _object(request: web.Request) -> dict[str, Any]:
    value = await _json(request)
    if not isinstance(value, dict):
        raise InvalidRequest("Expected an object.")
    return value


def _whole(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest(f"The value is invalid for '{name}'. Expected an integer, got string.")
    return int(text)
