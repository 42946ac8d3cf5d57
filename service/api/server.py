"""The HTTP server: a :class:`TolerantHandler` for each connection, and handlers that are found once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import web

from service.api.connection import TolerantHandler, refusal
from service.errors import NotFound

#: Seconds that aiohttp gives to what is still being answered when its time is over, and then once more to its end.
_CUT: Final = 0.1
#: Seconds between two looks whether everything is answered.
_LOOK: Final = 0.05

_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TolerantServer(web.Server):
    """Makes a :class:`TolerantHandler` for each connection."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return TolerantHandler(self, loop=self._loop, **self._kwargs)

    async def rest(self, seconds: float) -> None:
        """Wait until no request is being answered, at most so long."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while True:
            left = ends_at - loop.time()
            if left <= 0 or not any(
                cast(TolerantHandler, connection).is_answering for connection in self.connections
            ):
                return
            await asyncio.sleep(min(left, _LOOK))


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
    """Runs an application behind a :class:`TolerantServer`.

    When it is cleaned up, requests have ``drain_timeout`` seconds from then on; what is still being answered is cut. To
    aiohttp a time for that means twice as long, for whatever does not end by itself.
    """

    def __init__(self, app: web.Application, *, drain_timeout: float = 0.0, **options: Any) -> None:
        super().__init__(app, shutdown_timeout=_CUT, **options)
        self._drain_timeout = drain_timeout

    async def shutdown(self) -> None:
        """Do what the application has to do at the stop, and let requests end."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._drain_timeout
        await super().shutdown()
        if isinstance(self.server, TolerantServer):
            await self.server.rest(ends_at - loop.time())

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        handle = cast(_Handle, server.request_handler)
        if not self.app.middlewares:
            # What is remembered is the handler alone, which no middleware would be around.
            handle = _Remembering(handle)
        return TolerantServer(cast(Any, handle), request_factory=server.request_factory, **server._kwargs)
