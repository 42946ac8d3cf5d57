"""Retention and legal holds over HTTP.

``PUT`` and ``DELETE /api/interactions/{id}/hold`` hold one interaction; ``/api/holds`` has all holds of the project, on
labels and on the whole of it as well; ``POST /api/retention`` applies the rules, or tells what they would do.
"""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from service.api.endpoint import answer, check_parameters, read_body
from service.api.keys import AUTHENTICATOR, LIFECYCLE, RETENTION, STORE
from service.errors import FailedPrecondition, InvalidRequest, NotFound, PermissionDenied
from service.interactions.calls import Principal
from service.interactions.render import timestamp
from service.store.kept_holds import Hold
from service.wire import codec, ids


async def hold(request: web.Request) -> web.StreamResponse:
    """Hold an interaction, for another reason once more: each of its holds stands until it is released itself."""
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    reason = _text(await _object(request, "reason"), "reason")
    record = await request.app[LIFECYCLE].find_recorded(principal, request.match_info["id"])
    holds = request.app[STORE].holds
    own = [found for found in await holds.on(record.id) if found.interaction_id == record.id]
    placed = next((found for found in own if reason in (None, found.reason)), None)
    if placed is None:
        placed = await holds.place(principal.project_id, key=record.id, reason=reason)
        if not await request.app[STORE].stands(record.id):
            raise NotFound(f"The interaction {request.match_info['id']!r} was deleted.")
    return answer(request, codec.dumps(_told(placed)), interaction_id=ids.to_text(record.id))


async def release(request: web.Request) -> web.StreamResponse:
    """Hold an interaction no more; one that a label or its project holds is held all the same.

    Of several holds of its own, ``hold`` names the one to be released.
    """
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request, "hold")
    wanted = request.query.get("hold")
    reference = request.match_info["id"]
    record = await request.app[LIFECYCLE].find_recorded(principal, reference)
    holds = request.app[STORE].holds
    own = [found for found in await holds.on(record.id) if found.interaction_id == record.id]
    if not own:
        raise NotFound(
            f"The interaction {reference!r} has no hold of its own; holds on labels and on the project are at "
            "'/api/holds'."
        )
    if wanted is not None:
        own = [found for found in own if _text_id(found) == wanted]
        if not own:
            raise NotFound(
                f"The interaction {reference!r} has no hold {wanted[:100]!r} of its own that stands."
            )
    # Requests for one reason that came at once have placed as many holds, and mean one.
    if len({found.reason for found in own}) > 1:
        raise FailedPrecondition(
            f"The interaction {reference!r} has {len(own)} holds of its own; name the one to be released with 'hold': "
            f"{', '.join(map(_text_id, own))}."
        )
    for found in own:
        await holds.release(found)
    return answer(request, b"{}", interaction_id=ids.to_text(record.id))


async def list_holds(request: web.Request) -> web.StreamResponse:
    """All holds of the caller's project, the released ones with the time of that."""
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    found = await request.app[STORE].holds.of_project(principal.project_id)
    return answer(request, codec.dumps({"holds": [_told(hold) for hold in found]}))


async def place(request: web.Request) -> web.StreamResponse:
    """Hold what carries a label (``{"label": "team=legal"}``), or without one the whole project."""
    principal = _administrator(request)
    check_parameters(request)
    body = await _object(request, "label", "reason")
    label, separator, value = (_text(body, "label") or "").partition("=")
    if not label and body.get("label") is not None:
        raise InvalidRequest("The value is invalid for 'label'. Expected NAME or NAME=VALUE.")
    placed = await request.app[STORE].holds.place(
        principal.project_id,
        label=label or None,
        label_value=value if separator else None,
        reason=_text(body, "reason"),
    )
    return answer(request, codec.dumps(_told(placed)))


async def release_any(request: web.Request) -> web.StreamResponse:
    """Release a hold by its id."""
    principal = _administrator(request)
    check_parameters(request)
    wanted = request.match_info["hold"]
    holds = request.app[STORE].holds
    for found in await holds.of_project(principal.project_id):
        if _text_id(found) == wanted and found.released_at is None:
            await holds.release(found)
            return answer(request, b"{}")
    raise NotFound(f"The hold {wanted[:100]!r} was not found, or is released already.")


async def run(request: web.Request) -> web.StreamResponse:
    """Apply the rules of retention now; ``dry_run`` only tells, ``whole`` rewrites a SQLite file to its least size."""
    _administrator(request)
    check_parameters(request)
    body = await _object(request, "dry_run", "whole")
    report = await request.app[RETENTION].run(dry_run=_flag(body, "dry_run"), whole=_flag(body, "whole"))
    return answer(request, codec.dumps(report.told()))


def _administrator(request: web.Request) -> Principal:
    principal = request.app[AUTHENTICATOR].principal(request)
    if principal.key_id is not None:
        raise PermissionDenied("Only the master key may do this.")
    return principal


async def _object(request: web.Request, *known: str) -> dict[str, Any]:
    raw = await read_body(request)
    body = codec.loads(raw) if raw else {}
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid JSON payload: expected an object.")
    for name in body:
        if name not in known:
            raise InvalidRequest(f"Unknown parameter {name!r}. Known are: {', '.join(known)}.")
    return body


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"The value is invalid for {name!r}. Expected a string.")
    return value


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"The value is invalid for {name!r}. Expected a boolean.")
    return value


def _told(hold: Hold) -> dict[str, Any]:
    value = "" if hold.label_value is None else f"={hold.label_value}"
    return {
        "id": _text_id(hold),
        "interaction": None if hold.interaction_id is None else ids.to_text(hold.interaction_id),
        "label": None if hold.label is None else f"{hold.label}{value}",
        "reason": hold.reason,
        "created": timestamp(hold.created_at),
        "released": None if hold.released_at is None else timestamp(hold.released_at),
    }


def _text_id(hold: Hold) -> str:
    return str(uuid.UUID(bytes=hold.id))
