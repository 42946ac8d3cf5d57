"""PostgreSQL: one writing connection for group commits, a pool for reads, both asyncpg's own.

A batch reaches the server as arrays, one statement per kind, inside one transaction with ``synchronous_commit=on``
whatever the server's default is. Keys travel as 16 bytes in both directions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy import ARRAY, FromClause, bindparam, column, func
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from service.errors import ConfigurationError
from service.store.backend import Batch, Row, RowRefused, StoreUnavailable, packed
from service.store.codec import Codec
from service.store.queries import CompiledQueries, compile_statement
from service.store.statements import BatchStatement, Query

#: Seconds after which a statement is given up; a healthy commit takes milliseconds.
_COMMAND_TIMEOUT = 30.0
_CONNECT_TIMEOUT = 10.0
_DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
#: A batch larger than this is packed in a thread, so that compressing does not hold up the loop.
_PACK_IN_THREAD_BYTES = 64 * 1024

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
        self._texts: dict[str, str] = {}
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
            async with connection.transaction():
                for statement, rows in ready:
                    await connection.execute(self._text(statement), *zip(*rows, strict=True))
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

    async def _pack(self, batch: Batch) -> list[tuple[BatchStatement, Sequence[Row]]]:
        size = sum(len(row[1]) for statement, rows in batch if statement.packs for row in rows)

        def pack() -> list[tuple[BatchStatement, Sequence[Row]]]:
            return [(statement, packed(statement, rows, self._codec)) for statement, rows in batch]

        return await asyncio.to_thread(pack) if size > _PACK_IN_THREAD_BYTES else pack()

    def _text(self, statement: BatchStatement) -> str:
        text = self._texts.get(statement.name)
        if text is None:
            text = compile_statement(statement.build(_rows_of(statement), postgresql.insert), _DIALECT).string
            self._texts[statement.name] = text
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
