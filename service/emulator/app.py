"""The HTTP side of the emulator: Google's routes, and what surrounds every answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
from aiohttp import web

from service.emulator import admin
from service.emulator.config import EmulatorConfig
from service.emulator.core import Emulator
from service.emulator.delivery import Delivery, DroppedError, reset, trickle
from service.emulator.directives import NOTHING, Plan, parse
from service.emulator.faults import UNREAD
from service.emulator.interference import AnsweredError, interfere, precede
from service.emulator.keys import CLOCK, EMULATOR
from service.emulator.records import Record
from service.emulator.replies import json_reply, refusal, unauthenticated
from service.emulator.seen import Seen
from service.emulator.timeline import position_after, steps_at, timeline
from service.errors import InvalidRequest, MethodNotAllowed, NotFound, ServiceError

VERSIONS = ("v1", "v1beta")
_WISHES = ("x-emulator-fault", "x-emulator-behavior")
_LEGACY_CLIENT = re.compile(r"(?:google-genai-sdk|GeminiNextGenAPIClient/Python)[/ ]1\.")
_STEPS_REVISION = "2026-05-20"
_LEGACY = (
    "The legacy Interactions API schema is no longer supported. Please upgrade your client SDK to "
    "Python >= 2.0.0 or JavaScript/TypeScript >= 2.0.0 to adopt the new 'steps' schema. "
    "For details and migration examples, see: "
    "https://ai.google.dev/gemini-api/docs/interactions-breaking-changes-may-2026"
)
_TRUTH = {"true": True, "1": True, "false": False, "0": False, "": False}

_SEEN: web.RequestKey[Seen] = web.RequestKey("seen", Seen)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that has been read and let in."""

    emulator: Emulator
    key: str
    body: bytes
    plan: Plan


def create_emulator(config: EmulatorConfig | None = None) -> web.Application:
    """The emulator as an application; every application has a state and a clock of its own."""
    config = config or EmulatorConfig()
    app = web.Application(middlewares=[_answer_errors], client_max_size=config.max_body_bytes)
    emulator = app[EMULATOR] = Emulator(config)
    app[CLOCK] = emulator.clock
    app.on_response_prepare.append(_mark)
    app.on_shutdown.append(_close)
    for version in VERSIONS:
        collection = f"/{version}/interactions"
        app.router.add_post(collection, _create)
        app.router.add_get(collection + "/{id}", _get, allow_head=False)
        app.router.add_delete(collection + "/{id}", _delete)
        app.router.add_post(collection + "/{id}/cancel", _cancel)
        app.router.add_get(f"/{version}/files/{{name:[^/:]+}}", _get_file, allow_head=False)
        app.router.add_get(f"/{version}/files/{{name:[^/:]+}}:download", _download, allow_head=False)
    admin.add_routes(app)
    return app


async def _mark(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["x-upstream"] = "emulator"
    seen = request.get(_SEEN)
    if seen is not None and request.transport is not None and not request.transport.is_closing():
        seen.status = response.status


async def _close(app: web.Application) -> None:
    app[EMULATOR].close()


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except AnsweredError as answered:
        return answered.response
    except ServiceError as error:
        return refusal(error)
    except DroppedError:
        return web.Response()
    except web.HTTPRequestEntityTooLarge:
        return refusal(InvalidRequest("Request payload size exceeds the limit."))
    except web.HTTPNotFound:
        _note(request)
        return refusal(NotFound())
    except web.HTTPMethodNotAllowed:
        _note(request)
        return refusal(MethodNotAllowed())


async def _create(request: web.Request) -> web.StreamResponse:
    call = await _receive(request)
    wanted, record = call.emulator.create(call.body, call.key, call.plan, _address(request))
    request[_SEEN].interaction = record.id if record.stored else None
    await interfere(request, call.plan)
    if wanted.stream:
        ids = record.background or call.emulator.config.foreground_event_ids or "event_ids" in call.plan
        return await _stream(request, call, record, 0, ids=ids)
    return await _send(request, call, _resource(call, record, usage=record.usage_live))


async def _get(request: web.Request) -> web.StreamResponse:
    call = await _receive(request)
    record = _record(request, call)
    query = request.query
    if query.get("fields", "*") != "*":
        raise InvalidRequest("Field masks are not supported.")
    await interfere(request, call.plan)
    asks_for_input = _flag(query.get("include_input", ""), "include_input")
    if _flag(query.get("stream", ""), "stream"):
        last = query.get("last_event_id")
        first = position_after(last, len(timeline(record))) if last else 0
        return await _stream(request, call, record, first, ids=True)
    usage = record.usage_for_get(call.emulator.clock.now())
    echo = asks_for_input and call.emulator.config.get_echoes_input
    return await _send(request, call, _resource(call, record, usage=usage, timeline=True, echo=echo))


async def _cancel(request: web.Request) -> web.StreamResponse:
    call = await _receive(request)
    record = call.emulator.cancel(request.match_info["id"], call.key, call.plan)
    await interfere(request, call.plan)
    return await _send(request, call, _resource(call, record, usage=True))


async def _delete(request: web.Request) -> web.StreamResponse:
    call = await _receive(request)
    call.emulator.delete(request.match_info["id"], call.key, call.plan)
    await interfere(request, call.plan)
    return await _send(request, call, b"{}")


async def _get_file(request: web.Request) -> web.StreamResponse:
    call = await _receive(request)
    file = call.emulator.files.find(request.match_info["name"], call.key, call.emulator.clock.now())
    await interfere(request, call.plan)
    version = request.path.split("/")[1]
    return await _send(request, call, orjson.dumps(file.resource(_address(request), version)))


async def _download(request: web.Request) -> web.StreamResponse:
    call = await _receive(request)
    if request.query.get("alt") != "media":
        raise InvalidRequest("Add 'alt=media' to download a file.")
    file = call.emulator.files.download(request.match_info["name"], call.key, call.emulator.clock.now())
    await interfere(request, call.plan)
    return web.Response(body=file.body, headers={"Content-Type": file.mime_type})


def _address(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


async def _receive(request: web.Request) -> _Call:
    """Read a request and let it in, unless a fault, the key or the client's age forbids it."""
    emulator = request.app[EMULATOR]
    seen = _note(request)
    key = seen.key
    plan = _wishes(request)
    path = request.path_qs
    if UNREAD in plan or (emulator.faults and emulator.faults.take_unread(request.method, path, key)):
        raise reset(request)
    body = seen.body = await request.read()
    if emulator.faults:
        plan = emulator.faults.take(request.method, path, key, body).merged(plan)
        if UNREAD in plan:
            raise reset(request)
    await precede(emulator.clock, seen.at, emulator.config.latency, plan)
    if not key or (emulator.config.keys is not None and key not in emulator.config.keys):
        raise unauthenticated()
    if _is_legacy(request):
        raise InvalidRequest(_LEGACY)
    return _Call(emulator, key, body, plan)


def _note(request: web.Request) -> Seen:
    """Take the request down, whatever becomes of it."""
    emulator = request.app[EMULATOR]
    seen = emulator.seen.note(
        emulator.clock.now(),
        request.method,
        request.path,
        request.query_string,
        request.headers,
        _key(request),
    )
    request[_SEEN] = seen
    return seen


def _key(request: web.Request) -> str:
    """The key, from any of the three places it may be in (contract 1.3)."""
    key = request.headers.get("x-goog-api-key") or request.query.get("key")
    if key:
        return key
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _wishes(request: web.Request) -> Plan:
    plan = NOTHING
    for header in _WISHES:
        text = request.headers.get(header)
        if text:
            plan = plan.merged(parse(text))
    return plan


def _is_legacy(request: web.Request) -> bool:
    """Whether the client is of the generation that is no longer served (contract 1.4)."""
    headers = request.headers
    agent = f"{headers.get('User-Agent', '')} {headers.get('x-goog-api-client', '')}"
    return _LEGACY_CLIENT.search(agent) is not None and headers.get("Api-Revision", "") < _STEPS_REVISION


def _record(request: web.Request, call: _Call) -> Record:
    """The record that a GET asks for.

    Raises NotFound also while a fault hides it.
    """
    name = request.match_info["id"]
    record = call.emulator.find(name, call.key, call.plan)
    if record.hidden(call.emulator.clock.now()):
        raise NotFound(f"Interaction '{name}' was not found.")
    return record


def _resource(
    call: _Call, record: Record, *, usage: bool, timeline: bool = False, echo: bool = False
) -> bytes:
    """The interaction as it is now; `timeline` adds the input in front, `echo` as it was sent (contract 3.3)."""
    now = call.emulator.clock.now()
    steps = steps_at(record, now)
    if timeline and call.emulator.config.get_includes_input and not record.flat:
        steps = orjson.dumps(record.input_steps() + orjson.loads(steps))
    return record.resource(now, steps, usage=usage, echo=echo)


async def _send(request: web.Request, call: _Call, body: bytes) -> web.StreamResponse:
    if not call.plan:
        return json_reply(body)
    response = web.StreamResponse(headers=json_reply(b"").headers)
    response.content_length = len(body)
    await response.prepare(request)
    if "reset_headers" in call.plan:
        await asyncio.sleep(0)
        raise reset(request)
    wish = call.plan.get("trickle")
    if wish is None:
        await response.write(body)
    else:
        await trickle(request, response, body, wish)
    await response.write_eof()
    return response


async def _stream(
    request: web.Request, call: _Call, record: Record, first: int, *, ids: bool
) -> web.StreamResponse:
    return await Delivery(call.emulator, record, call.plan, first=first, ids=ids).run(request)


def _flag(text: str, name: str) -> bool:
    """A truth value in the query.

    Raises InvalidRequest for anything else.
    """
    value = _TRUTH.get(text.lower())
    if value is None:
        raise InvalidRequest(f"The value is invalid for '{name}'. Expected a boolean, got string.")
    return value
