"""Connections that read a SQLite file: beside an event loop that has other work, or in a process that has none."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol

import aiosqlite

from service.store.reports import Rows

_BUSY_MS: Final = 10_000
_STATEMENTS: Final = 64
#: Steps of SQLite's machine, a few milliseconds of them, after which signals are heard and time is looked at.
_STEPS: Final = 100_000


class SqliteConnection(Protocol):
    """A connection; what it raises is :class:`sqlite3.Error`."""

    async def fetch(self, text: str, arguments: Sequence[Any] = ()) -> Rows:
        """All rows of a statement."""

    def within(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        """Have what is read meanwhile take no longer; raises :class:`TimeoutError` if it would."""

    async def roll_back(self) -> None:
        """End a transaction, if there is one; a statement that still runs is interrupted first."""

    async def close(self) -> None:
        """Close it, whatever it is doing."""


async def beside(uri: str, cache_kib: int) -> SqliteConnection:
    """A connection with a thread of its own."""
    connection = await aiosqlite.connect(uri, uri=True, isolation_level=None, cached_statements=_STATEMENTS)
    return await _prepared(_Beside(connection), cache_kib)


async def alone(uri: str, cache_kib: int) -> SqliteConnection:
    """A connection that the event loop waits for.

    To change threads and back costs a tenth of a millisecond or two, and much that is in the processor's caches.
    """
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, cached_statements=_STATEMENTS)
    return await _prepared(_Alone(connection), cache_kib)


async def _prepared(connection: SqliteConnection, cache_kib: int) -> SqliteConnection:
    try:
        await connection.fetch(f"PRAGMA busy_timeout = {_BUSY_MS}")
        await connection.fetch(f"PRAGMA cache_size = -{cache_kib}")
    except sqlite3.Error:
        # Its thread would live on.
        await connection.close()
        raise
    return connection


class _Beside:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def fetch(self, text: str, arguments: Sequence[Any] = ()) -> Rows:
        return list(await self._connection.execute_fetchall(text, arguments))

    def within(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        return asyncio.timeout(seconds)

    async def roll_back(self) -> None:
        with suppress(sqlite3.Error, ValueError):
            await self._connection.interrupt()
            if self._connection.in_transaction:
                await self._connection.execute("ROLLBACK")

    async def close(self) -> None:
        with suppress(ValueError, sqlite3.Error):
            await self._connection.interrupt()
        await self._connection.close()


class _Alone:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._deadline = float("inf")
        connection.set_progress_handler(self._is_late, _STEPS)

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    async def fetch(self, text: str, arguments: Sequence[Any] = ()) -> Rows:
        try:
            return self._connection.execute(text, arguments).fetchall()
        except sqlite3.OperationalError:
            if self._is_late():
                raise TimeoutError from None
            raise

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = float("inf")

    async def roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    async def close(self) -> None:
        self._connection.close()
