"""What signs the webhooks of a project, for whoever sets up the receivers: the master key only.

``GET /api/projects/{project}/webhook-secret`` reads it, ``POST`` makes the first one, ``POST .../rotate`` puts another
in its place, ``DELETE .../previous`` ends the time of the one before. A project is named by its id, or is ``default``.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from aiohttp import web

from service.api.endpoint import answer, check_parameters, read_body
from service.api.keys import AUTHENTICATOR, SIGNING
from service.errors import InvalidRequest, NotFound, ParameterUnknown, PermissionDenied
from service.interactions.render import timestamp
from service.store.kept_secrets import SigningSecrets
from service.wire import codec

#: Seconds that a secret which is replaced signs along, unless the request says otherwise, and at most.
_KEEP: Final = 24 * 3600
_LONGEST: Final = 90 * 24 * 3600


async def secret(request: web.Request) -> web.StreamResponse:
    """Read the secret, which is made when there is none."""
    project_id = _project(request)
    return _told(request, project_id, await request.app[SIGNING].show(project_id))


async def create_secret(request: web.Request) -> web.StreamResponse:
    """Make the first secret."""
    project_id = _project(request)
    await _members(request)
    return _told(request, project_id, await request.app[SIGNING].create(project_id))


async def rotate_secret(request: web.Request) -> web.StreamResponse:
    """Sign with a new secret, and for ``keep_seconds`` more with the one before."""
    project_id = _project(request)
    keep = (await _members(request, "keep_seconds")).get("keep_seconds", _KEEP)
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 <= keep <= _LONGEST:
        raise InvalidRequest(f"The value is invalid for 'keep_seconds'. Expected 0 to {_LONGEST} seconds.")
    return _told(request, project_id, await request.app[SIGNING].rotate(project_id, keep))


async def retire_secret(request: web.Request) -> web.StreamResponse:
    """Sign no more with the secret before."""
    project_id = _project(request)
    return _told(request, project_id, await request.app[SIGNING].retire(project_id))


def _told(request: web.Request, project_id: bytes, found: SigningSecrets) -> web.StreamResponse:
    until = found.previous_until
    told = {
        "project_id": str(UUID(bytes=project_id)),
        "webhook_secret": found.current,
        "previous_secret": found.previous,
        "previous_until": None if until is None else timestamp(until),
    }
    response = answer(request, codec.dumps(told))
    response.headers["Cache-Control"] = "no-store"
    return response


async def _members(request: web.Request, *known: str) -> dict[str, object]:
    raw = await read_body(request)
    body = codec.loads(raw) if raw else {}
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if unknown := sorted(body.keys() - set(known)):
        raise ParameterUnknown(f"Unknown parameter {unknown[0]!r}.")
    return body


def _project(request: web.Request) -> bytes:
    principal = request.app[AUTHENTICATOR].principal(request)
    check_parameters(request)
    if principal.key_id is not None:
        raise PermissionDenied("The webhook secret of a project is shown to the master key only.")
    name = request.match_info["project"]
    own = principal.project_id
    if name not in ("default", str(UUID(bytes=own))):
        raise NotFound(
            f"There is no project {name[:64]!r}; 'default' is the one that the master key works in."
        )
    return own
