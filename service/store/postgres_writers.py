"""The connections of a process that write to PostgreSQL: one at first, more when batches wait for one.

A server has few connections to give, and one that writes now and then needs no more of them. Nobody waits for a further
one: it is made behind the batches, which go on with those there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg

from service.tasks import stop

logger = logging.getLogger(__name__)

#: While one batch waits for the disk, the next need not wait for it; the server puts their waits together.
MOST: Final = 3
#: Seconds that a server is left alone which has not given a further connection.
_PAUSE: Final = 5.0

_Connect = Callable[[], Awaitable[asyncpg.Connection]]


class WritingConnections:
    """Those connections; ``connect`` makes one, and ``failures`` is what it raises where it cannot."""

    def __init__(
        self, connect: _Connect, failures: tuple[type[Exception], ...], close_timeout: float
    ) -> None:
        self._connect = connect
        self._failures = failures
        self._close_timeout = close_timeout
        #: Those that are not writing now.
        self._idle: list[asyncpg.Connection] = []
        self._taken = 0
        self._making: asyncio.Task[None] | None = None
        self._not_before = 0.0

    @property
    def count(self) -> int:
        """How many there are, or the one that there will be."""
        return max(1, self._taken + sum(not connection.is_closed() for connection in self._idle))

    async def start(self) -> None:
        """Make the first one; raises what ``connect`` does."""
        self._idle.append(await self._connect())

    def widen(self) -> None:
        """Make one more soon, unless there are enough, or the server has just given none."""
        if (
            self._making is None
            and self.count < MOST
            and asyncio.get_running_loop().time() >= self._not_before
        ):
            self._making = asyncio.get_running_loop().create_task(self._make(), name="connect")

    async def take(self) -> asyncpg.Connection:
        """One that nobody else has until it is given back or dropped; raises what ``connect`` does."""
        self._taken += 1
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self._connect()
        except BaseException:
            self._taken -= 1
            raise

    def give_back(self, connection: asyncpg.Connection) -> None:
        """Have it taken by others again."""
        self._taken -= 1
        self._idle.append(connection)

    def drop(self, connection: asyncpg.Connection) -> None:
        """Give up one that was taken, at once: nobody can say what is on its way there."""
        self._taken -= 1
        cut(connection)

    async def close(self) -> None:
        """Close those that nobody has, politely where the server still answers."""
        if self._making is not None:
            await stop(self._making)
        for connection in self._idle:
            with suppress(*self._failures):
                await connection.close(timeout=self._close_timeout)
        self._idle.clear()

    async def _make(self) -> None:
        self._not_before = asyncio.get_running_loop().time() + _PAUSE
        try:
            self._idle.append(await self._connect())
            self._not_before = 0.0
        except self._failures as error:
            logger.info(
                "PostgreSQL gives no further connection, and writes go on with %d: %s", self.count, error
            )
        finally:
            self._making = None


def cut(connection: asyncpg.Connection) -> None:
    """End a connection without a farewell."""
    with suppress(Exception):
        connection.terminate()
