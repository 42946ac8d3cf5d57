"""Scripts on PostgreSQL: one process at a time, which holds a lock of its session for as long as it lives.

The lock is for work not to be done twice. That it has no effect twice, a script sees to by what it changes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg
from sqlalchemy import Dialect

from service.store.postgres_writers import cut
from service.store.queries import CompiledQueries
from service.store.script import Ask, Rows, Script, ScriptMaker

_ADVISORY_LOCK: Final = 7_310_579_014_225


class Scripts:
    """Runs scripts on a connection that is made when first needed, and made again when it breaks."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], dialect: Dialect) -> None:
        self._connect = connect
        self._queries = CompiledQueries(dialect)
        self._connection: asyncpg.Connection | None = None
        self._alone = False
        self._turn = asyncio.Lock()

    async def run(self, script: ScriptMaker) -> int | None:
        """A script's result, or None while another process has the lock; raises what the driver does."""
        async with self._turn:
            running = asyncio.get_running_loop().create_task(self._run(script), name="script")
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                # asyncpg loses the cancellation of who waits to send more, and awaits an answer that cannot come; and
                # a server that is not there any more is not asked to take back what it has.
                self.close()
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                raise

    async def _run(self, script: ScriptMaker) -> int | None:
        connection = await self._connected()
        try:
            if not self._alone:
                self._alone = await connection.fetchval(f"SELECT pg_try_advisory_lock({_ADVISORY_LOCK})")
                if not self._alone:
                    return None
            async with connection.transaction():
                await connection.execute("SET LOCAL synchronous_commit = off")
                return await self._steps(connection, script())
        except BaseException:
            # What the connection was doing is not known; with it the lock ends. There may be another one by now.
            if self._connection is connection:
                self.close()
            raise

    async def _steps(self, connection: asyncpg.Connection, steps: Script) -> int:
        found: Rows | None = None
        while True:
            try:
                step = next(steps) if found is None else steps.send(found)
            except StopIteration as end:
                result: int = end.value
                return result
            if isinstance(step, Ask):
                text, arguments = self._queries.prepare(step.query, step.parameters)
                found = await connection.fetch(text, *arguments)
                continue
            found = []
            if step.parameters:
                await connection.executemany(*self._queries.prepare_many(step.query, step.parameters))

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._alone = False
            self._connection = await self._connect()
        return self._connection

    def close(self) -> None:
        """Let go of the connection and the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            cut(connection)
