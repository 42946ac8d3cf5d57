"""Whether the store fits itself, as a report."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from service.api.endpoint import answer
from service.api.keys import AUTHENTICATOR, RECONCILIATION
from service.audit.spans import span
from service.errors import InvalidRequest
from service.interactions.calls import Principal
from service.store.tables import DEFAULT_PROJECT
from service.wire import codec

_PARAMETERS = frozenset({"from", "to", "interval", "project", "key"})


async def report(request: web.Request) -> web.StreamResponse:
    """``GET /api/reconcile?from=&to=&interval=&project=``: figures per interval, and ``mismatches``.

    The master key sees everything, or the project that it names; the key of a project sees that project.
    """
    principal = request.app[AUTHENTICATOR].principal(request)
    if unknown := sorted(request.query.keys() - _PARAMETERS):
        raise InvalidRequest(
            f"Unknown parameter {unknown[0]!r}. There are 'from', 'to', 'interval' and 'project'."
        )
    query = request.query
    asked = span(query.get("from"), query.get("to"), query.get("interval"))
    found = await request.app[RECONCILIATION].report(asked, _project(principal, query.get("project")))
    return answer(request, codec.dumps(found.shown()))


def _project(principal: Principal, named: str | None) -> bytes | None:
    if principal.key_id is not None:
        return principal.project_id
    if named is None:
        return None
    if named == "default":
        return DEFAULT_PROJECT
    try:
        return UUID(named).bytes
    except ValueError:
        raise InvalidRequest(
            f"The value is invalid for 'project'. Expected 'default' or a project's id, got {named[:50]!r}."
        ) from None
