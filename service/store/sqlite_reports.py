"""Reports on a SQLite file: read-only connections of their own, each with its thread."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiosqlite
from sqlalchemy import Executable
from sqlalchemy.dialects import sqlite

from service.errors import DatabaseUnusable
from service.store.compiling import Compiling, Composed
from service.store.queries import CompiledQueries
from service.store.reports import (
    ACQUIRE_TIMEOUT,
    TIMEOUT,
    Plan,
    Prepared,
    Reading,
    Rows,
    too_many,
    too_slow,
    unreadable,
)
from service.store.statement import Query

logger = logging.getLogger(__name__)

_READERS: Final = 2
_BUSY_MS: Final = 10_000
_CACHE_KIB: Final = 32_000
#: For what goes through a database from one end to the other, and reads nothing twice.
_SMALL_CACHE_KIB: Final = 4_000
_SQLITE: Final = sqlite.dialect(paramstyle="qmark")


class _SqliteReading:
    """A read transaction of one connection."""

    dialect = "sqlite"

    def __init__(
        self, connection: aiosqlite.Connection, queries: CompiledQueries, compiling: Compiling
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._compiling = compiling

    async def fetch(self, statement: Executable | Composed) -> Rows:
        """All rows of a statement."""
        text, arguments = self._compiling.prepared(statement)
        return list(await self._connection.execute_fetchall(text, arguments))

    async def plan(self, plan: Plan) -> None:
        """SQLite does as it is told in each statement."""

    async def ask(self, query: Query, parameters: Mapping[str, Any]) -> Rows:
        """All rows of a query."""
        return list(await self._connection.execute_fetchall(*self._queries.prepare(query, parameters)))

    async def fetch_prepared(self, statement: Prepared, values: Mapping[str, Any]) -> Rows:
        """All rows of a statement with these values."""
        text, arguments = statement.with_values(values, _SQLITE)
        return list(await self._connection.execute_fetchall(text, arguments))


class SqliteReports:
    """Reports on one SQLite file."""

    def __init__(self, uri: str, *, alone: bool = False) -> None:
        self._uri = uri
        self._queries = CompiledQueries(_SQLITE)
        self._compiling = Compiling(_SQLITE)
        self._readers = 1 if alone else _READERS
        self._cache_kib = _SMALL_CACHE_KIB if alone else _CACHE_KIB
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._all: list[aiosqlite.Connection] = []

    async def start(self) -> None:
        """Open connections; raises :class:`DatabaseUnusable` when the file cannot be read."""
        try:
            for _ in range(self._readers):
                connection = await aiosqlite.connect(
                    self._uri, uri=True, isolation_level=None, cached_statements=64
                )
                self._all.append(connection)
                await connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
                await connection.execute(f"PRAGMA cache_size = -{self._cache_kib}")
                self._idle.put_nowait(connection)
        except sqlite3.Error as error:
            raise DatabaseUnusable(f"SQLite cannot read the file ({error}).") from error

    async def close(self) -> None:
        """Close them, whatever they are doing."""
        for connection in self._all:
            with suppress(ValueError, sqlite3.Error):
                await connection.interrupt()
            await connection.close()
        self._all.clear()

    @asynccontextmanager
    async def reading(self, *, timeout: float = TIMEOUT) -> AsyncIterator[Reading]:
        """A snapshot."""
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT):
                connection = await self._idle.get()
        except TimeoutError:
            raise too_many() from None
        try:
            async with asyncio.timeout(timeout):
                await connection.execute("BEGIN")
                yield _SqliteReading(connection, self._queries, self._compiling)
        except TimeoutError:
            raise too_slow(timeout) from None
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            logger.warning("a report cannot be read: %s", error)
            raise unreadable() from error
        finally:
            await self._give_back(connection)

    async def _give_back(self, connection: aiosqlite.Connection) -> None:
        """End the snapshot; a statement that still runs is interrupted first."""
        with suppress(sqlite3.Error, ValueError):
            await connection.interrupt()
            if connection.in_transaction:
                await connection.execute("ROLLBACK")
        self._idle.put_nowait(connection)
