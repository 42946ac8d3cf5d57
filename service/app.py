"""The composition root: settings become resources, one ``cleanup_ctx`` each, and resources become routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from service import collector, resources
from service.api.auth import Authenticator
from service.api.endpoint import MADE_UP
from service.api.keys import (
    AUTHENTICATOR,
    COMMON_HEADERS,
    KEEP_ALIVE,
    LARGE_IMPORT,
    REQUESTS,
)
from service.api.metrics import REGISTRY
from service.api.request_figures import Requests
from service.api.routes import add_routes
from service.api.server import TolerantRunner
from service.emulated import emulator
from service.errors import ConfigurationError
from service.serving import run_loop, stop_on_signals
from service.settings import Settings
from service.shared import DUTIES, SERVING, SETTINGS, Duties

logger = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_KEEPALIVE_SECONDS: Final = 300.0


def build(settings: Settings, duties: Duties = SERVING) -> web.Application:
    """The application of these settings and duties; the database is opened when it starts."""
    app = web.Application(client_max_size=settings.max_body_bytes)
    app[SETTINGS] = settings
    app[AUTHENTICATOR] = Authenticator(settings.master_key.reveal() if settings.master_key else None)
    app[REQUESTS] = Requests()
    app[LARGE_IMPORT] = asyncio.Semaphore()
    app[KEEP_ALIVE] = settings.keep_alive_interval
    app[REGISTRY] = CollectorRegistry()
    app[COMMON_HEADERS] = MADE_UP if settings.emulator else {}
    if settings.emulator:
        app.cleanup_ctx.append(emulator)
    app[DUTIES] = duties
    app.cleanup_ctx.extend(resources.IN_ORDER)
    add_routes(app)
    return app


async def run(settings: Settings, stop: asyncio.Event | None = None, notices: Sequence[str] = ()) -> None:
    """Serve until ``stop`` is set, or until SIGTERM or SIGINT when it is not given.

    The notices are warnings, and are told once it serves: what cannot start is told alone.
    Raises :class:`ConfigurationError` when the database or the address cannot be used.
    """
    stop = stop or stop_on_signals()
    runner = TolerantRunner(
        build(settings),
        access_log=None,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        drain_timeout=settings.drain_timeout,
    )
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port, backlog=_BACKLOG).start()
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another --host or --port."
            ) from error
        collector.settle()
        host, port = runner.addresses[0][:2]
        for notice in notices:
            logger.warning(notice)
        logger.info("listening on http://%s:%s", host, port)
        await stop.wait()
        logger.info("stopping: open interactions have %g seconds", settings.drain_timeout)
    finally:
        await runner.cleanup()


def serve(settings: Settings, notices: Sequence[str] = ()) -> None:
    """Serve in this process until it is told to stop; the notices are told when it begins."""
    run_loop(run(settings, notices=notices))
