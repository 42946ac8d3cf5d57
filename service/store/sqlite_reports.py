"""Reports on a SQLite file: by read-only connections of their own."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Executable
from sqlalchemy.dialects import sqlite

from service.errors import DatabaseUnusable
from service.store import sqlite_connections
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
from service.store.sqlite_connections import SqliteConnection
from service.store.statement import Query

logger = logging.getLogger(__name__)

_READERS: Final = 2
_CACHE_KIB: Final = 32_000
#: For what goes through a database from one end to the other, and reads nothing twice.
_SMALL_CACHE_KIB: Final = 4_000
_SQLITE: Final = sqlite.dialect(paramstyle="qmark")


class _SqliteReading:
    """A read transaction of one connection."""

    dialect = "sqlite"

    def __init__(self, connection: SqliteConnection, queries: CompiledQueries, compiling: Compiling) -> None:
        self._connection = connection
        self._queries = queries
        self._compiling = compiling

    async def fetch(self, statement: Executable | Composed) -> Rows:
        """All rows of a statement."""
        return await self._connection.fetch(*self._compiling.prepared(statement))

    async def plan(self, plan: Plan) -> None:
        """SQLite does as it is told in each statement."""

    async def ask(self, query: Query, parameters: Mapping[str, Any]) -> Rows:
        """All rows of a query."""
        return await self._connection.fetch(*self._queries.prepare(query, parameters))

    async def fetch_prepared(self, statement: Prepared, values: Mapping[str, Any]) -> Rows:
        """All rows of a statement with these values."""
        return await self._connection.fetch(*statement.with_values(values, _SQLITE))


class SqliteReports:
    """Reports on one SQLite file."""

    def __init__(self, uri: str, *, alone: bool = False) -> None:
        self._uri = uri
        self._queries = CompiledQueries(_SQLITE)
        self._compiling = Compiling(_SQLITE)
        self._alone = alone
        self._idle: asyncio.Queue[SqliteConnection] = asyncio.Queue()
        self._all: list[SqliteConnection] = []

    async def start(self) -> None:
        """Open connections; raises :class:`DatabaseUnusable` when the file cannot be read."""
        try:
            for _ in range(1 if self._alone else _READERS):
                connection = await self._open()
                self._all.append(connection)
                self._idle.put_nowait(connection)
        except sqlite3.Error as error:
            raise DatabaseUnusable(f"SQLite cannot read the file ({error}).") from error

    async def _open(self) -> SqliteConnection:
        if self._alone:
            return await sqlite_connections.alone(self._uri, _SMALL_CACHE_KIB)
        return await sqlite_connections.beside(self._uri, _CACHE_KIB)

    async def close(self) -> None:
        """Close them, whatever they are doing."""
        for connection in self._all:
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
            async with connection.within(timeout):
                await connection.fetch("BEGIN")
                yield _SqliteReading(connection, self._queries, self._compiling)
        except TimeoutError:
            raise too_slow(timeout) from None
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            logger.warning("a report cannot be read: %s", error)
            raise unreadable() from error
        finally:
            await connection.roll_back()
            self._idle.put_nowait(connection)
