"""Running an application in this process: the event loop, the signals that end it, the socket it listens on."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any, Final

from aiohttp import web

from service.api.server import TolerantRunner

#: Seconds after which a thread that computes lets the event loop go on; with Python's own 5 ms, whatever is derived or
#: packed beside the loop would hold up every answer by as much.
_SWITCH_INTERVAL: Final = 0.0005


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on uvloop where there is one."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def serve_on_socket(app: web.Application, listening: socket.socket) -> None:
    """Serve an application on a socket that listens already, until a signal ends it."""
    runner = TolerantRunner(app, access_log=None)
    stop = stop_on_signals()
    try:
        await runner.setup()
        await web.SockSite(runner, listening).start()
        await stop.wait()
    finally:
        await runner.cleanup()
