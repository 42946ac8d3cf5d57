"""The Interactions resource: create, get, cancel, delete (contract 1.1)."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

from aiohttp import web
from multidict import istr

from service.api import recorded, wishes
from service.api.endpoint import answer, read_body
from service.api.keys import AUTHENTICATOR, CREATOR, LIFECYCLE, RECORDED, REPEATS, STREAMS
from service.api.recorded import send_recorded, wished
from service.api.sse import send_events
from service.errors import InvalidRequest
from service.interactions import render
from service.interactions.calls import Answer, Call
from service.interactions.feed import Feed
from service.interactions.listening import Listening
from service.interactions.stream_limits import shorter
from service.settings.model import History
from service.store.records import Record
from service.wire import envelope, idempotency_key, ids, labels
from service.wire.revision import Revision, detect

_EMULATOR_HEADERS = ("x-emulator-fault", "x-emulator-behavior")
_HISTORY_HEADER = "x-interactions-history"
_HISTORIES: dict[str, History] = {"upstream": "upstream", "local": "local"}
#: By these a request asks for more than a plain create. Most have none of them, and one look tells that.
_PARTICULAR: Final = tuple(
    map(
        istr,
        (
            *_EMULATOR_HEADERS,
            _HISTORY_HEADER,
            *wishes.HEADERS,
            labels.HEADER,
            recorded.HEADER,
            idempotency_key.HEADER,
        ),
    )
)
_BOOLEANS = {"true": True, "1": True, "": True, "false": False, "0": False}


async def create(request: web.Request) -> web.StreamResponse:
    """``POST /interactions``: unary or streamed, anew or what an earlier one with the same key has made."""
    began = perf_counter()
    app, headers = request.app, request.headers
    principal = app[AUTHENTICATOR].principal(request)
    raw = await read_body(request)
    asked = envelope.parse(raw)
    revision = detect(headers, asked.body)
    call = Call(principal, raw, asked, revision)
    is_particular = any(map(headers.__contains__, _PARTICULAR))
    if is_particular or wishes.MEMBER in asked.body:
        call = _with_particulars(request, call)
    if is_particular or app[RECORDED].any_required:
        pace = await wished(request, principal.project_id)
        if pace is not None:
            return await send_recorded(request, call, pace)
    opened: Feed | Answer | Listening
    if is_particular and (key := _key(request)) is not None:
        opened = await app[REPEATS].create(call, key)
    elif asked.stream:
        opened = await app[CREATOR].stream(call)
    else:
        opened = await app[CREATOR].create(call)
    if isinstance(opened, Answer):
        return answer(
            request,
            render.body(opened.interaction, revision),
            interaction_id=opened.id,
            upstream_id=opened.upstream_id,
            history=opened.history,
            served=opened.served,
            replayed=opened.replayed,
        )
    if isinstance(opened, Feed):
        opened = app[STREAMS].live(opened)
    limit = call.wishes.timeout
    if opened.served is not None:
        limit = shorter(limit, app[CREATOR].stream_limits.of(opened.served.deployment))
    left = None if limit is None else limit - (perf_counter() - began)
    return await send_events(request, opened, revision, limit=left)


def _with_particulars(request: web.Request, call: Call) -> Call:
    """The call with what its headers, and the member that names fallbacks, ask for."""
    return call._replace(
        upstream_headers=upstream_headers(request),
        history=history_wish(request),
        wishes=wishes.wishes_of(request, call.envelope),
        labels=labels.of_header(request.headers.get(labels.HEADER)),
    )


def _key(request: web.Request) -> str | None:
    headers = request.headers
    if idempotency_key.HEADER not in headers:
        return None
    return idempotency_key.parse(headers.getall(idempotency_key.HEADER))


async def get(request: web.Request) -> web.StreamResponse:
    """``GET /interactions/{id}``: the stored interaction, or its events with ``stream=true``."""
    principal = request.app[AUTHENTICATOR].principal(request)
    reference = request.match_info["id"]
    revision = detect(request.headers, None)
    stream = _flag(request, "stream")
    last_event_id = request.query.get("last_event_id") or request.headers.get("last-event-id")
    if last_event_id and not stream:
        if "last_event_id" in request.query:
            raise InvalidRequest("'last_event_id' needs 'stream=true'.")
        last_event_id = None
    if stream:
        listening = await request.app[STREAMS].open(principal, reference, last_event_id)
        return await send_events(request, listening, revision)
    lifecycle = request.app[LIFECYCLE]
    include_input = _flag(request, "include_input")
    record, told = await lifecycle.get(principal, reference)
    if include_input:
        told = render.with_input(told, await lifecycle.request(record), revision)
    return _told(request, record, told, revision)


async def cancel(request: web.Request) -> web.StreamResponse:
    """``POST /interactions/{id}/cancel`` and ``/{id}:cancel``."""
    principal = request.app[AUTHENTICATOR].principal(request)
    record, told = await request.app[LIFECYCLE].cancel(
        principal, request.match_info["id"], upstream_headers(request)
    )
    return _told(request, record, told, detect(request.headers, None))


async def delete(request: web.Request) -> web.StreamResponse:
    """``DELETE /interactions/{id}``: deleted here for certain when this is answered."""
    principal = request.app[AUTHENTICATOR].principal(request)
    record = await request.app[LIFECYCLE].delete(principal, request.match_info["id"])
    return answer(request, b"{}", interaction_id=ids.to_text(record.id), upstream_id=record.upstream_id)


def _told(request: web.Request, record: Record, told: dict[str, Any], revision: Revision) -> web.Response:
    return answer(
        request,
        render.body(told, revision),
        interaction_id=ids.to_text(record.id),
        upstream_id=record.upstream_id,
        deployment=record.deployment_id,
    )


def history_wish(request: web.Request) -> History | None:
    """The caller's choice of where this request's history comes from."""
    chosen = request.headers.get(_HISTORY_HEADER)
    if chosen is None:
        return None
    history = _HISTORIES.get(chosen.strip().lower())
    if history is None:
        raise InvalidRequest(
            f"The header '{_HISTORY_HEADER}' says {chosen[:40]!r}; it can be 'upstream' (upstream's copy while it "
            "lives) or 'local' (the whole conversation from this store, nothing kept upstream)."
        )
    return history


def _flag(request: web.Request, name: str) -> bool:
    value = request.query.get(name)
    if value is None:
        return False
    flag = _BOOLEANS.get(value.lower())
    if flag is None:
        raise InvalidRequest(
            f"The value is invalid for '{name}'. Expected true or false, got {value[:50]!r}."
        )
    return flag


def upstream_headers(request: web.Request) -> bytes:
    """The emulator's own headers, as lines; deployments that are not on this machine never get them."""
    lines = b""
    for name in _EMULATOR_HEADERS:
        if (value := request.headers.get(name)) is not None:
            lines += f"{name}: {value}\r\n".encode("utf-8", "surrogateescape")
    return lines
