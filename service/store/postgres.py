"""PostgreSQL: a few writing connections for group commits, a pool for reads, both asyncpg's own.

A batch reaches the server as arrays in one statement, committed with ``synchronous_commit=on`` whatever the server's
default is. Other replicas write the same rows, so what depends on a row is decided by those that the statement really
changed, under their locks, and never by what it saw before it got them. Keys travel as 16 bytes in both directions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg
from sqlalchemy import Boolean

from service.errors import DatabaseUnusable
from service.store.aliases import by_hash
from service.store.backend import Batch, RowRefused, StoreUnavailable, Told, packed
from service.store.codec import Codec
from service.store.hints import CHANNEL, Listener
from service.store.postgres_batches import DIALECT, as_one_statement, text_of
from service.store.postgres_scripts import Scripts
from service.store.postgres_writers import MOST, WritingConnections, cut
from service.store.queries import CompiledQueries
from service.store.script import ScriptMaker
from service.store.statement import BatchStatement, Query
from service.store.statements import FINISH, UNWRITTEN

#: Seconds after which a batch is given up; a healthy commit takes milliseconds.
_COMMIT_TIMEOUT = 30.0
#: Seconds after which a read is given up; it can be asked for again.
_READ_TIMEOUT = 10.0
#: Seconds that a read waits for a connection, and that one which timed out gets to be usable again.
_ACQUIRE_TIMEOUT = 5.0
CONNECT_TIMEOUT = 10.0
#: The same for what must be there at once, or is tried again.
_PROMPT_TIMEOUT = 2.0
#: Milliseconds after which the server itself ends a statement that was given a connection of its own: who is gone from
#: such a connection leaves it running otherwise, and the next is said meanwhile.
_APART_TIMEOUT = "2000"
CLOSE_TIMEOUT = 2.0
#: Every read goes by keys: a few of them, or a walk. Where the planner knows little of a table, or of how far a walk
#: goes, it prefers to read whole tables; these settings leave it the indexes. And planning a read anew each time takes
#: longer than the read, the more so the more partitions there are: ten times for a chain after three months.
_BY_KEYS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
#: The same goes for writes, but that the parts of a batch are joined to one another.
_ROWS_BY_KEYS = {name: _BY_KEYS[name] for name in ("plan_cache_mode", "enable_seqscan", "jit")}
_HINT = f"SELECT pg_notify('{CHANNEL}', $1)"
#: A batch larger than this is packed in a thread, so that compressing does not hold up the loop.
_PACK_IN_THREAD_BYTES = 512 * 1024

#: Everything that a database which cannot be used is known by.
FAILURES = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # What asyncpg says when it is asked to write while the server's farewell is still unread.
    asyncpg.InternalClientError,
)
#: The classes of SQLSTATE in which the rows are at fault: data, constraints, limits. In all others the database is.
_REFUSALS = ("22", "23", "54")


async def prepare_connection(connection: asyncpg.Connection) -> None:
    """Let keys travel as 16 bytes in both directions."""
    await connection.set_type_codec(
        "uuid", schema="pg_catalog", format="binary", encoder=lambda key: key, decoder=bytes
    )


async def keep_session(connection: asyncpg.Connection) -> None:
    """Reads leave nothing behind in a session, so handing a connection back need not cost a round trip."""


class PostgresBackend:
    """One PostgreSQL database, shared by any number of processes."""

    #: There may always be another.
    alone_since: bytes | None = None
    has_hints = True
    most_at_once = MOST

    def __init__(self, dsn: str, codec: Codec, *, pool_limit: int) -> None:
        self._dsn = dsn
        self._codec = codec
        self._pool_limit = pool_limit
        self._texts: dict[tuple[str, ...], str] = {}
        self._unwritten = text_of(UNWRITTEN)
        self._queries = CompiledQueries(DIALECT)
        self._writers = WritingConnections(self._connect_writer, FAILURES, CLOSE_TIMEOUT)
        self._commits: set[asyncio.Task[None]] = set()
        self._pool: asyncpg.Pool | None = None
        self._scripts = Scripts(self._connect_scripts, DIALECT)
        self._listener: Listener | None = None
        self._callbacks: list[Callable[[str], None]] = []

    async def start(self) -> None:
        """Connect; raises :class:`DatabaseUnusable` when the database cannot be reached."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                # A pool that keeps connections by itself withholds one while it tries to make it.
                min_size=0,
                init_size=1,
                max_size=self._pool_limit,
                command_timeout=_READ_TIMEOUT,
                timeout=CONNECT_TIMEOUT,
                init=prepare_connection,
                reset=keep_session,
                # What :meth:`take` writes is durable as well.
                server_settings={
                    "application_name": "interactions reader",
                    "synchronous_commit": "on",
                    **_BY_KEYS,
                },
            )
            await self._writers.start()
        except FAILURES as error:
            raise DatabaseUnusable(
                f"PostgreSQL cannot be used ({error}); check that the server runs and "
                "that the database, user and password in the URL are right."
            ) from error

    async def close(self) -> None:
        """Close every connection, politely where the server still answers."""
        if self._listener is not None:
            await self._listener.close()
        self._scripts.close()
        for task in self._commits:
            task.cancel()
        await asyncio.gather(*self._commits, return_exceptions=True)
        await self._writers.close()
        with suppress(*FAILURES):
            if self._pool is not None:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._pool.close()

    @property
    def batches_at_once(self) -> int:
        """As many as there are connections for."""
        return self._writers.count

    def widen(self) -> None:
        """Have one more batch at a time committed from some moment on, if the server gives a connection for it."""
        self._writers.widen()

    def commit(self, batch: Batch, told: Told) -> None:
        """Write the batch as one transaction, which is durable when that is told."""
        task = asyncio.get_running_loop().create_task(self._tell(batch, told), name="commit")
        self._commits.add(task)
        task.add_done_callback(partial(self._ended, told))

    def _ended(self, told: Told, task: asyncio.Task[None]) -> None:
        self._commits.discard(task)
        if task.cancelled():
            told(StoreUnavailable("PostgreSQL: the commit was ended"))
        else:
            # What goes wrong where it is told is heard of at once.
            task.result()

    async def _tell(self, batch: Batch, told: Told) -> None:
        result: Mapping[bytes, bool] | Exception
        try:
            result = await self._commit(batch)
        except Exception as error:
            result = error
        told(result)

    async def _commit(self, batch: Batch) -> Mapping[bytes, bool]:
        ready = await self._pack(batch)
        try:
            connection = await self._writers.take()
        except FAILURES as error:
            raise StoreUnavailable(_described(error)) from error
        try:
            result = await self._write(connection, ready)
        except FAILURES as error:
            verdict = _verdict(error)
            if isinstance(verdict, StoreUnavailable) or connection.is_in_transaction():
                self._writers.drop(connection)
            else:
                self._writers.give_back(connection)
            raise verdict from error
        except BaseException:
            self._writers.drop(connection)
            raise
        self._writers.give_back(connection)
        return result

    async def fetch(self, query: Query, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """All rows of a query."""
        sql, arguments = self._queries.prepare(query, parameters)
        if self._pool is None:
            raise StoreUnavailable("PostgreSQL: not connected")
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT) as connection:
                rows: Sequence[Sequence[Any]] = await connection.fetch(sql, *arguments)
        except FAILURES as error:
            raise StoreUnavailable(_described(error)) from error
        return rows

    async def give_back(self, *, whole: bool) -> int:
        """Dropped partitions are given back at once, and autovacuum finds the space of deleted rows."""
        return 0

    async def run(self, script: ScriptMaker) -> int | None:
        """Run a script as one transaction, on a connection of its own."""
        try:
            return await self._scripts.run(script)
        except FAILURES as error:
            raise _verdict(error) from error

    async def take(
        self, query: Query, parameters: Mapping[str, Any], *, apart: bool = False
    ) -> Sequence[Sequence[Any]]:
        """What a statement that writes returns, after it is committed."""
        if not apart:
            return await self.fetch(query, parameters)
        sql, arguments = self._queries.prepare(query, parameters)
        try:
            connection = await self._connect_promptly(
                "interactions writer", statement_timeout=_APART_TIMEOUT, **_BY_KEYS
            )
            try:
                await prepare_connection(connection)
                rows: Sequence[Sequence[Any]] = await connection.fetch(sql, *arguments)
            finally:
                cut(connection)
        except FAILURES as error:
            raise StoreUnavailable(_described(error)) from error
        return rows

    def place_of(self, upstream_id: str) -> int:
        """By its hash, as processes of every version beside this one look for it."""
        return by_hash(upstream_id)

    async def announce(self, topic: str) -> bool:
        """Hint to every process on this database that there is news; may be lost, never raises."""
        with suppress(*FAILURES):
            if self._pool is not None:
                async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT) as connection:
                    await connection.execute(_HINT, topic)
                    return True
        return False

    def on_news(self, callback: Callable[[str], None]) -> None:
        """Call this back with the topic of each hint, until the backend is closed."""
        self._callbacks.append(callback)
        if self._listener is None:
            self._listener = Listener(self._connect_listener, FAILURES, self._hear)

    def _hear(self, topic: str) -> None:
        for callback in self._callbacks:
            callback(topic)

    async def _write(self, connection: asyncpg.Connection, batch: Batch) -> Mapping[bytes, bool]:
        ahead = [part for part in batch if part[0].goes_ahead]
        first = [part for part in batch if not part[0].goes_ahead and not part[0].looks_again]
        later = [part for part in batch if part[0].looks_again]
        steps = [step for step in (ahead, first, later) if step]
        if len(steps) > 1:
            await connection.execute("BEGIN")
            finished = sum([await self._execute(connection, step) for step in steps])
            await connection.execute("COMMIT")
        else:
            finished = await self._execute(connection, batch)
        given = [(row[0], row[-1]) for statement, rows in batch if statement is FINISH for row in rows]
        if finished == len(given):
            return {}
        found = await connection.fetch(self._unwritten, *map(list, zip(*given, strict=True)))
        return {key: bool(there) for key, there in found}

    async def _execute(self, connection: asyncpg.Connection, batch: Batch) -> int:
        arguments = [
            list(map(bool, values)) if isinstance(column.type, Boolean) else values
            for statement, rows in batch
            for column, values in zip(statement.columns, zip(*rows, strict=True), strict=True)
        ]
        finished: int = await connection.fetchval(self._text(tuple(kind for kind, _ in batch)), *arguments)
        return finished

    async def _pack(self, batch: Batch) -> Batch:
        size = sum(len(row[1]) for statement, rows in batch if statement.packs for row in rows)
        if size > _PACK_IN_THREAD_BYTES:
            return await asyncio.to_thread(packed, batch, self._codec)
        return packed(batch, self._codec)

    def _text(self, kinds: tuple[BatchStatement, ...]) -> str:
        names = tuple(statement.name for statement in kinds)
        text = self._texts.get(names)
        if text is None:
            text = self._texts[names] = as_one_statement(kinds)
        return text

    async def _connect_writer(self) -> asyncpg.Connection:
        return await self._connect("interactions writer")

    async def _connect_scripts(self) -> asyncpg.Connection:
        return await self._connect("interactions scripts")

    async def _connect(self, name: str) -> asyncpg.Connection:
        """A connection that writes, and keeps what it has committed."""
        connection = await asyncpg.connect(
            self._dsn,
            command_timeout=_COMMIT_TIMEOUT,
            timeout=CONNECT_TIMEOUT,
            server_settings={"synchronous_commit": "on", "application_name": name, **_ROWS_BY_KEYS},
        )
        try:
            await prepare_connection(connection)
        except BaseException:
            cut(connection)
            raise
        return connection

    async def _connect_listener(self) -> asyncpg.Connection:
        return await self._connect_promptly("interactions listener")

    async def _connect_promptly(self, name: str, **settings: str) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._dsn,
            command_timeout=_READ_TIMEOUT,
            timeout=_PROMPT_TIMEOUT,
            server_settings={"application_name": name, "synchronous_commit": "on", **settings},
        )


def _described(error: BaseException) -> str:
    return f"PostgreSQL: {str(error) or type(error).__name__}"


def _verdict(error: Exception) -> RowRefused | StoreUnavailable:
    """What the failure of a batch means to the writer."""
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None:
        # A partition was attached for what was just on its way to the default one; it finds its place the next time.
        return StoreUnavailable(_described(error))
    if isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(_REFUSALS):
        return RowRefused(_described(error))
    return StoreUnavailable(_described(error))
