"""The HTTP server: a :class:`TolerantHandler` for each connection, and handlers that are found once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from service.api.connection import TolerantHandler, refusal
from service.errors import NotFound

_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TolerantServer(web.Server):
    """Makes a :class:`TolerantHandler` for each connection."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return TolerantHandler(self, loop=self._loop, **self._kwargs)


class _Remembering:
    """Finds the handler of a path without parameters once, not for every request.

    What the router says of such a path never changes, and asking it costs a thirtieth of a create.
    """

    def __init__(self, handle: _Handle) -> None:
        self._handle = handle
        self._known: dict[tuple[str, str], web.UrlMappingMatchInfo] = {}

    def __call__(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        """Serve a request."""
        message = request._message
        known = self._known.get((message.method, message.path))
        if known is not None and "Expect" not in message.headers:
            request._match_info = known
            return known.handler(request)
        return self._find(request)

    async def _find(self, request: web.Request) -> web.StreamResponse:
        place = (request.method, request._message.path)
        try:
            response = await self._handle(request)
        except web.HTTPNotFound:
            # Targets that are no paths, which no route can match: those of OPTIONS and CONNECT.
            return refusal(
                NotFound(f"{request.method} asks for what is no path; this service serves paths only.")
            )
        found = request._match_info
        resource = found.route.resource if found is not None else None
        if found is not None and isinstance(resource, web.PlainResource) and resource.canonical == place[1]:
            self._known[place] = found
        return response


class TolerantRunner(web.AppRunner):
    """Runs an application behind a :class:`TolerantServer`."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        handle = cast(_Handle, server.request_handler)
        if not self.app.middlewares:
            # What is remembered is the handler alone, which no middleware would be around.
            handle = _Remembering(handle)
        return TolerantServer(cast(Any, handle), request_factory=server.request_factory, **server._kwargs)
