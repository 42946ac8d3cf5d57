"""The service inside this process: the application that serves everywhere else, behind the same HTTP.

Its connections are pairs of sockets inside the process, so nothing listens and there is no second way through the code.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final, cast

from aiohttp import BaseConnector, ClientConnectionError, ClientRequest, ClientTimeout, web
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace

from service.api.server import TolerantRunner
from service.app import build
from service.errors import ConfigurationError
from service.sdk.errors import SdkConfigurationError
from service.sdk.options import Embedded
from service.store.engine import file_of

logger = logging.getLogger(__name__)

#: Seconds that an idle connection is kept; the side that sends requests gives it up first.
_KEEPALIVE: Final = 60.0
#: The service answers to this machine's own names only when it has no key.
_INSIDE: Final = "http://localhost"


class EmbeddedService:
    """The service inside this process."""

    base_url = _INSIDE
    outside = False

    def __init__(self, embedded: Embedded) -> None:
        """Build nothing yet; raises :class:`SdkConfigurationError`."""
        loaded = embedded.settings()
        for line in loaded.warnings:
            logger.warning(line)
        self._settings = loaded.settings
        self._runner: web.AppRunner | None = None
        self.headers: dict[str, str] = {}
        self.grace = self._settings.drain_timeout
        self.uses_sqlite = file_of(self._settings.database_url) is not None

    async def start(self) -> BaseConnector:
        """Open and migrate the database, and start what the service does in the background."""
        runner = TolerantRunner(
            build(self._settings),
            access_log=None,
            keepalive_timeout=2 * _KEEPALIVE,
            drain_timeout=self._settings.drain_timeout,
        )
        try:
            await runner.setup()
        except BaseException as error:
            await runner.cleanup()
            if isinstance(error, ConfigurationError):
                raise SdkConfigurationError(str(error)) from error
            raise
        self._runner = runner
        return _InProcessConnector(cast(web.Server, runner.server))

    async def close(self) -> None:
        """Give open interactions their drain time, commit what is queued, close the database."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class _InProcessConnector(BaseConnector):
    """Connects to a server of this process by pairs of sockets."""

    def __init__(self, server: web.Server) -> None:
        super().__init__(limit=0, keepalive_timeout=_KEEPALIVE)
        self._server = server

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout
    ) -> ResponseHandler:
        ours, theirs = socket.socketpair()
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._server, theirs)
            _, protocol = await loop.create_connection(self._factory, sock=ours)
        except BaseException as error:
            ours.close()
            theirs.close()
            if isinstance(error, OSError):
                raise ClientConnectionError(f"no pair of sockets: {error}") from error
            raise
        return protocol
