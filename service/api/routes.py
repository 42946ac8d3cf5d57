"""Every path of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

from service.api import (
    audit,
    deployments,
    exports,
    health,
    import_room,
    interactions,
    metrics,
    openapi,
    reconcile,
    replays,
    retention,
    usage,
    webhooks,
)
from service.api.endpoint import Handler, endpoint, error_response, too_large
from service.api.keys import REQUESTS
from service.errors import ExpectationFailed, MethodNotAllowed, NotFound

Expect = Callable[[web.Request], Awaitable[web.StreamResponse | None]]

_PREFIXES = ("/v1beta", "/v1", "")


async def _not_found(request: web.Request) -> web.StreamResponse:
    raise NotFound(f"There is nothing at {request.path!r}. Interactions are at '/v1beta/interactions'.")


async def _refuse_expectation(request: web.Request) -> web.StreamResponse:
    raise ExpectationFailed


async def _refuse_size(request: web.Request) -> web.StreamResponse:
    raise too_large(request)


async def _expected(request: web.Request, times: int = 1) -> web.StreamResponse | None:
    """Meet what a request expects before it sends its body, or refuse it; HTTP/1.0 knows no expectations."""
    if request.version < HttpVersion11:
        return None
    if request.headers["Expect"].lower() != "100-continue":
        return await endpoint(_refuse_expectation, request.app[REQUESTS])(request)
    if request._client_max_size and (request.content_length or 0) > request._client_max_size * times:
        return await endpoint(_refuse_size, request.app[REQUESTS])(request)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The answer itself has not begun.
    request.writer.output_size = 0
    return None


async def _expected_import(request: web.Request) -> web.StreamResponse | None:
    """The same for bodies that may be larger."""
    return await _expected(request, import_room.TIMES)


def _method_not_allowed(allowed: str) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        error = MethodNotAllowed(f"{request.method} is not allowed at {request.path!r}; use {allowed}.")
        response = error_response(request, error)
        response.headers["Allow"] = allowed
        return response

    return refuse


def add_routes(app: web.Application) -> None:
    """Register all handlers; what no handler serves is answered in Google's error shape as well."""
    for prefix in _PREFIXES:
        collection = f"{prefix}/interactions"
        one = f"{collection}/{{id:[^/:]+}}"
        _add(app, collection, POST=interactions.create)
        _add(app, f"{one}/cancel", POST=interactions.cancel)
        _add(app, f"{one}:cancel", POST=interactions.cancel)
        _add(app, one, GET=interactions.get, DELETE=interactions.delete)
    _add(app, "/api/interactions", GET=audit.list_interactions)
    audited = "/api/interactions/{id:[^/]+}"
    _add(app, audited, GET=audit.get_interaction, DELETE=audit.delete_interaction)
    _add(app, f"{audited}/chain", GET=audit.get_chain)
    _add(app, f"{audited}/events", GET=audit.get_events)
    _add(app, "/api/usage", GET=usage.usage)
    _add(app, "/openapi.json", GET=openapi.openapi)
    _add(app, "/api/reconcile", GET=reconcile.report)
    signing = "/api/projects/{project:[^/]+}/webhook-secret"
    _add(app, signing, GET=webhooks.secret, POST=webhooks.create_secret)
    _add(app, f"{signing}/rotate", POST=webhooks.rotate_secret)
    _add(app, f"{signing}/previous", DELETE=webhooks.retire_secret)
    _add(app, "/api/interactions/{id:[^/:]+}/replay", POST=replays.replay)
    _add(app, "/api/interactions/{id:[^/:]+}/comparison", GET=replays.comparison)
    _add(app, "/api/interactions/{id:[^/:]+}/hold", PUT=retention.hold, DELETE=retention.release)
    _add(app, "/api/export", GET=exports.export)
    _add(app, "/api/import", _expected_import, POST=exports.import_lines)
    _add(app, "/api/holds", GET=retention.list_holds, POST=retention.place)
    _add(app, "/api/holds/{hold}", DELETE=retention.release_any)
    _add(app, "/api/retention", POST=retention.run)
    _add(app, "/health/live", GET=health.live)
    _add(app, "/health/ready", GET=health.ready)
    _add(app, "/metrics", GET=metrics.metrics)
    _add(app, "/api/deployments", GET=deployments.deployments)
    app.router.add_route("*", "/{path:.*}", endpoint(_not_found, app[REQUESTS]), expect_handler=_expected)


def _add(app: web.Application, path: str, expected: Expect = _expected, **handlers: Handler) -> None:
    resource, figures = app.router.add_resource(path), app[REQUESTS]
    for method, handler in handlers.items():
        resource.add_route(method, endpoint(handler, figures), expect_handler=expected)
    refuse = _method_not_allowed(", ".join(handlers))
    resource.add_route("*", endpoint(refuse, figures), expect_handler=_expected)
