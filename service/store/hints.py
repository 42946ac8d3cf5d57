"""Hints between the processes on one PostgreSQL database: LISTEN and NOTIFY, never to be relied on.

Whoever waits for news polls; a hint only lets it poll at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg

CHANNEL: Final = "interaction_events"
#: Seconds until a connection that broke is made again.
_PAUSE: Final = 1.0
_CLOSE_TIMEOUT: Final = 2.0


class Listener:
    """Calls back with the topic of every hint; owns its connection, and makes it again when it breaks."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        failures: tuple[type[Exception], ...],
        callback: Callable[[str], None],
    ) -> None:
        self._connect = connect
        self._failures = failures
        self._callback = callback
        self._task = asyncio.get_running_loop().create_task(self._run(), name="hints")

    async def close(self) -> None:
        """Listen no more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            with suppress(*self._failures):
                await self._listen()
            await asyncio.sleep(_PAUSE)

    async def _listen(self) -> None:
        connection = await self._connect()
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, self._hear)
            await lost.wait()
        finally:
            with suppress(*self._failures):
                await connection.close(timeout=_CLOSE_TIMEOUT)

    def _hear(self, connection: Any, process: int, channel: str, payload: object) -> None:
        self._callback(str(payload))
