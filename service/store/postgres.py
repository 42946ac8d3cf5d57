"""PostgreSQL: one writing connection for group commits, a pool for reads, both asyncpg's own.

A batch reaches the server as arrays in one statement, committed with ``synchronous_commit=on`` whatever the server's
default is. Keys travel as 16 bytes in both directions.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy import ARRAY, FromClause, bindparam, column, func
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from service.errors import ConfigurationError
from service.store.backend import Batch, RowRefused, StoreUnavailable, packed
from service.store.codec import Codec
from service.store.queries import CompiledQueries, compile_statement
from service.store.statements import BatchStatement, Query

#: Seconds after which a statement is given up; a healthy commit takes milliseconds.
_COMMAND_TIMEOUT = 30.0
_CONNECT_TIMEOUT = 10.0
_PARAMETER = re.compile(r"\$(\d+)")
_DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
#: A batch larger than this is packed in a thread, so that compressing does not hold up the loop.
_PACK_IN_THREAD_BYTES = 512 * 1024

_UNREACHABLE = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    # What asyncpg says when it is asked to write while the server's farewell is still unread.
    asyncpg.InternalClientError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
)


def _rows_of(statement: BatchStatement) -> FromClause:
    arrays = [bindparam(f"{c.name}_rows", type_=ARRAY(c.type)) for c in statement.columns]
    columns = [column(c.name, c.type) for c in statement.columns]
    return func.unnest(*arrays).table_valued(*columns, name="rows").render_derived()


def _as_one_statement(kinds: Sequence[BatchStatement]) -> str:
    """All kinds of a batch as one statement: one round trip, and a transaction by itself.

    The parts see the database as it was before the statement. They do not need each other's rows, because the writer
    never puts two writes of one interaction that build on each other into one batch.
    """
    parts = []
    used = 0
    for place, statement in enumerate(kinds):
        compiled = compile_statement(statement.build(_rows_of(statement), postgresql.insert), _DIALECT)
        parts.append(f"kind_{place} AS ({_with_later_parameters(compiled.string, used)})")
        used += len(statement.columns)
    return f"WITH {', '.join(parts)} SELECT 1"


def _with_later_parameters(text: str, by: int) -> str:
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + by}", text)


async def _prepare_connection(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "uuid", schema="pg_catalog", format="binary", encoder=lambda key: key, decoder=bytes
    )


async def _keep_session(connection: asyncpg.Connection) -> None:
    """Reads leave nothing behind in a session, so handing a connection back need not cost a round trip."""


class PostgresBackend:
    """One PostgreSQL database, shared by any number of processes."""

    def __init__(self, dsn: str, codec: Codec, *, pool_limit: int) -> None:
        self._dsn = dsn
        self._codec = codec
        self._pool_limit = pool_limit
        self._texts: dict[tuple[str, ...], str] = {}
        self._queries = CompiledQueries(_DIALECT)
        self._writer: asyncpg.Connection | None = None
        self._pool: asyncpg.Pool | None = None

    async def start(self) -> None:
        """Connect; raises :class:`ConfigurationError` when the database cannot be reached."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._pool_limit,
                command_timeout=_COMMAND_TIMEOUT,
                timeout=_CONNECT_TIMEOUT,
                init=_prepare_connection,
                reset=_keep_session,
            )
            self._writer = await self._connect_writer()
        except (*_UNREACHABLE, asyncpg.PostgresError) as error:
            raise ConfigurationError(
                f"general_settings.database_url: PostgreSQL cannot be used ({error}); check that the server runs and "
                "that the database, user and password in the URL are right."
            ) from error

    async def close(self) -> None:
        """Close every connection."""
        if self._writer is not None:
            await self._writer.close()
        if self._pool is not None:
            await self._pool.close()

    async def commit(self, batch: Batch) -> None:
        """Write the batch as one transaction that is durable when this returns."""
        ready = await self._pack(batch)
        try:
            connection = await self._writing_connection()
            arguments = [column for _, rows in ready for column in zip(*rows, strict=True)]
            await connection.execute(self._text(tuple(statement for statement, _ in ready)), *arguments)
        except _UNREACHABLE as error:
            await self._drop_writer()
            raise StoreUnavailable(f"PostgreSQL: {error or type(error).__name__}") from error
        except asyncpg.PostgresError as error:
            raise RowRefused(f"PostgreSQL: {error}") from error

    async def fetch(self, query: Query, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """All rows of a query."""
        sql, arguments = self._queries.prepare(query, parameters)
        if self._pool is None:
            raise StoreUnavailable("PostgreSQL: not connected")
        try:
            rows: Sequence[Sequence[Any]] = await self._pool.fetch(sql, *arguments)
        except (*_UNREACHABLE, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"PostgreSQL: {error or type(error).__name__}") from error
        return rows

    async def _pack(self, batch: Batch) -> Batch:
        size = sum(len(row[1]) for statement, rows in batch if statement.packs for row in rows)
        if size > _PACK_IN_THREAD_BYTES:
            return await asyncio.to_thread(packed, batch, self._codec)
        return packed(batch, self._codec)

    def _text(self, kinds: tuple[BatchStatement, ...]) -> str:
        names = tuple(statement.name for statement in kinds)
        text = self._texts.get(names)
        if text is None:
            text = self._texts[names] = _as_one_statement(kinds)
        return text

    async def _writing_connection(self) -> asyncpg.Connection:
        if self._writer is None or self._writer.is_closed():
            try:
                self._writer = await self._connect_writer()
            except asyncpg.PostgresError as error:
                # Whatever the server has against a connection, it is no fault of the rows.
                raise StoreUnavailable(f"PostgreSQL: {error}") from error
        return self._writer

    async def _connect_writer(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self._dsn,
            command_timeout=_COMMAND_TIMEOUT,
            timeout=_CONNECT_TIMEOUT,
            server_settings={"synchronous_commit": "on", "application_name": "interactions writer"},
        )
        await _prepare_connection(connection)
        return connection

    async def _drop_writer(self) -> None:
        connection, self._writer = self._writer, None
        if connection is not None:
            with suppress(Exception):
                connection.terminate()
