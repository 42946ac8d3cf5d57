"""Reports on PostgreSQL: a small pool of its own, read-only, planned by the server's own judgement."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg
from sqlalchemy import Executable, make_url

from service.errors import DatabaseUnusable
from service.store.compiling import Compiling, Composed
from service.store.postgres import CLOSE_TIMEOUT, CONNECT_TIMEOUT, FAILURES, keep_session, prepare_connection
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

_CONNECTIONS: Final = 3
#: The classes of SQLSTATE in which the statement is at fault.
_OUR_MISTAKES: Final = ("22", "42")
#: How few rows of a walk fill a page the planner cannot know: where several conditions say nearly the same, it takes
#: them for rare together, and reads and sorts everything. Nor does it know how rare a word is.
_SETTINGS: Final = {
    Plan.WALK: {"enable_sort": "off", "enable_indexscan": "on", "enable_indexonlyscan": "on"},
    Plan.COLLECT: {"enable_sort": "on", "enable_indexscan": "off", "enable_indexonlyscan": "off"},
    Plan.LOOK_UP: {"enable_sort": "on", "enable_indexscan": "on", "enable_indexonlyscan": "on"},
}
_ALWAYS: Final = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
}
#: To plan a list of hundreds of keys takes longer than to find them.
_REPEATED: Final = {"plan_cache_mode": "force_generic_plan", "enable_bitmapscan": "off", **_ALWAYS}
_PLANS: Final = {
    plan: "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())
    for plan, settings in {
        **{plan: {**settings, **_ALWAYS} for plan, settings in _SETTINGS.items()},
        Plan.LOOK_UP_AGAIN: _REPEATED,
    }.items()
}
_DIALECT: Final = make_url("postgresql+asyncpg://").get_dialect()()


class _PostgresReading:
    """A repeatable-read transaction of one connection."""

    dialect = "postgresql"

    def __init__(
        self,
        connection: asyncpg.Connection,
        queries: CompiledQueries,
        compiling: Compiling,
        timeout: float,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._compiling = compiling
        self._timeout = timeout
        self._planned: Plan | None = None

    async def fetch(self, statement: Executable | Composed) -> Rows:
        """All rows of a statement."""
        return await self._fetch(*self._compiling.prepared(statement))

    async def fetch_prepared(self, statement: Prepared, values: Mapping[str, Any]) -> Rows:
        """All rows of a statement with these values."""
        return await self._fetch(*statement.with_values(values, _DIALECT))

    async def _fetch(self, text: str, arguments: Sequence[Any]) -> Rows:
        rows: Rows = await self._connection.fetch(text, *arguments, timeout=self._timeout)
        return rows

    async def plan(self, plan: Plan) -> None:
        """Tell the planner, until the end of the transaction."""
        if plan is not self._planned:
            await self._connection.execute(_PLANS[plan])
            self._planned = plan

    async def ask(self, query: Query, parameters: Mapping[str, Any]) -> Rows:
        """All rows of a query."""
        return await self._fetch(*self._queries.prepare(query, parameters))


class PostgresReports:
    """Reports on one PostgreSQL database."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._queries = CompiledQueries(_DIALECT)
        self._compiling = Compiling(_DIALECT)
        self._pool: asyncpg.Pool | None = None

    async def start(self) -> None:
        """Connect; raises :class:`DatabaseUnusable` when the database cannot be reached."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=_CONNECTIONS,
                command_timeout=TIMEOUT,
                timeout=CONNECT_TIMEOUT,
                init=prepare_connection,
                reset=keep_session,
                server_settings={
                    "application_name": "interactions reports",
                    "default_transaction_read_only": "on",
                    # Reports differ each time, and compiling them takes longer than they do.
                    "plan_cache_mode": "force_custom_plan",
                    "jit": "off",
                },
            )
        except FAILURES as error:
            raise DatabaseUnusable(f"PostgreSQL cannot be used ({error}).") from error

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            with suppress(*FAILURES):
                self._pool.terminate()

    @asynccontextmanager
    async def reading(self, *, timeout: float = TIMEOUT) -> AsyncIterator[Reading]:
        """A snapshot."""
        if self._pool is None:
            raise unreadable()
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT)
        except TimeoutError:
            raise too_many() from None
        except FAILURES as error:
            raise unreadable() from error
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield _PostgresReading(connection, self._queries, self._compiling, timeout)
        except (TimeoutError, asyncpg.QueryCanceledError):
            raise too_slow(timeout) from None
        except FAILURES as error:
            if isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(_OUR_MISTAKES):
                raise
            logger.warning("a report cannot be read: %s", error)
            raise unreadable() from error
        finally:
            with suppress(*FAILURES):
                await self._pool.release(connection, timeout=CLOSE_TIMEOUT)
