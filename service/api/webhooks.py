"""What signs the webhooks of a project, for whoever sets up the receivers."""

from __future__ import annotations

from uuid import UUID

import orjson
from aiohttp import web

from service.api.endpoint import answer
from service.api.keys import AUTHENTICATOR, DELIVERIES
from service.errors import NotFound, PermissionDenied
from service.interactions.calls import Principal


async def secret(request: web.Request) -> web.StreamResponse:
    """``GET /api/projects/{id}/webhook-secret``, with the master key; the project's id or ``default``."""
    principal = request.app[AUTHENTICATOR].principal(request)
    project_id = _project(request, principal)
    told = {
        "project_id": str(UUID(bytes=project_id)),
        "webhook_secret": await request.app[DELIVERIES].secret(project_id),
    }
    response = answer(request, orjson.dumps(told))
    response.headers["Cache-Control"] = "no-store"
    return response


def _project(request: web.Request, principal: Principal) -> bytes:
    if principal.key_id is not None:
        raise PermissionDenied("The webhook secret of a project is shown to the master key only.")
    name = request.match_info["project"]
    own = principal.project_id
    if name not in ("default", str(UUID(bytes=own))):
        raise NotFound(
            f"There is no project {name[:64]!r}; 'default' is the one that the master key works in."
        )
    return own
