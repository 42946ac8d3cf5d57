"""Answers from what was recorded, for requests with ``x-replay: recorded`` and projects that get nothing else."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from service.api.endpoint import answer
from service.api.keys import LIFECYCLE, RECORDED, STREAMS
from service.api.sse import send_events
from service.errors import InvalidRequest
from service.interactions import render
from service.interactions.calls import Call
from service.interactions.recorded import Pace, asked_for
from service.wire import ids

HEADER: Final = "x-replay"
_HEADERS: Final = {HEADER: "recorded"}


async def wished(request: web.Request, project_id: bytes) -> Pace | None:
    """The pace at which a request wants a recorded answer, or has to have one; None when it is to go upstream.

    Raises :class:`InvalidRequest` for a header that says something else.
    """
    header = request.headers.get(HEADER)
    if header is None and not request.app[RECORDED].any_required:
        return None
    pace = None if header is None else asked_for(header)
    if header is not None and pace is None:
        raise InvalidRequest(
            f"The header '{HEADER}' says {header[:60]!r}; it can be 'recorded' (events come at the pace at which they "
            "came once) or 'recorded; pace=none' (all at once)."
        )
    return await request.app[RECORDED].pace(project_id, pace)


async def send_recorded(request: web.Request, call: Call, pace: Pace) -> web.StreamResponse:
    """The recorded answer to a call, in its caller's revision; a stream as the events that were recorded."""
    record = await request.app[RECORDED].find(call)
    if call.envelope.stream:
        pauses = await request.app[RECORDED].pauses(record) if pace == "recorded" else {}
        listening = request.app[STREAMS].recorded(record, pauses)
        return await send_events(request, listening, call.revision, _HEADERS)
    _, told = await request.app[LIFECYCLE].told(record)
    response = answer(
        request,
        render.body(told, call.revision),
        interaction_id=ids.to_text(record.id),
        upstream_id=record.upstream_id,
        deployment=record.deployment_id,
    )
    response.headers.update(_HEADERS)
    return response
