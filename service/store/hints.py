"""Hints between the processes on one PostgreSQL database: LISTEN and NOTIFY, never to be relied on.

Whoever waits for news polls; a hint only lets it poll at once. A connection on which nothing comes may be dead and not
know it, so it is looked whether it still carries anything. When it was made anew, that is told as well: hints may have
been lost meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg

from service.store.backend import MISSED
from service.tasks import stop

CHANNEL: Final = "interaction_events"
#: Seconds until a connection that broke is made again.
_PAUSE: Final = 0.5
#: Seconds between two looks whether it still carries anything, and that such a look may take.
_LOOK: Final = 5.0
_LOOK_TIMEOUT: Final = 2.0
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
        await stop(self._task)

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
            self._callback(MISSED)
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await lost.wait()
                await connection.execute("SELECT 1", timeout=_LOOK_TIMEOUT)
        finally:
            with suppress(*self._failures):
                await connection.close(timeout=_CLOSE_TIMEOUT)

    def _hear(self, connection: Any, process: int, channel: str, payload: object) -> None:
        self._callback(str(payload))
