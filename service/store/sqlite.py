"""SQLite: one writer thread with its own connection, read-only readers, WAL, ``synchronous=FULL``.

The writer thread exists because a commit waits for the disk. It executes one statement per kind and chunk, not one per
row: each execution gives up the interpreter lock, and taking it back from a busy event loop costs more than the row.
A batch of up to 64 callers is half a dozen executions, whatever its size.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import quote

import aiosqlite
from sqlalchemy import Column, FromClause, Select, bindparam, column, select, values
from sqlalchemy.dialects import sqlite

from service.errors import DatabaseUnusable
from service.store.aliases import by_time
from service.store.backend import Batch, Row, RowRefused, StoreUnavailable, Told, answer, packed
from service.store.codec import Codec
from service.store.exclusive import Exclusive
from service.store.queries import CompiledQueries, compile_statement
from service.store.script import Ask, ScriptMaker
from service.store.sole import Sole
from service.store.sqlite_space import BUSY_PAUSE, PATIENCE, PAUSE, copy_log, shrink, size_of, write_anew
from service.store.statement import BatchStatement, Particulars, Query
from service.store.statements import FINISH, UNWRITTEN
from service.store.tables import interactions

_READERS = 2
_READER_BUSY_MS = 10_000
#: What readers see of the file without copying it: a long chain is thousands of pages from all over it.
_MAPPED_BYTES = 2**30
#: Seconds that another process is waited for at the start, while it prepares the file, and between two tries.
_OPENING = 30.0
_OPENING_PAUSE = 0.1
#: Short, because the group-commit writer tries again itself and counts its callers' patience between two tries.
_WRITER_BUSY_MS = 500
#: What a value can be that the driver refuses before the database sees it.
_UNBINDABLE = (OverflowError, UnicodeError)
#: What a row holds is at fault in these; a file that is locked, full, damaged or gone is in all others.
_REFUSED = (sqlite3.IntegrityError, sqlite3.DataError, *_UNBINDABLE)
#: Rows of one execution. Each number of rows is a prepared statement of its own; this bounds how many there are.
_LARGEST_CHUNK = 64
_PREPARED_STATEMENTS = 320
#: Pages that the log may hold before it is copied into the database: fewer, larger checkpoints.
_CHECKPOINT_PAGES = 4_000

_DIALECT = sqlite.dialect(paramstyle="qmark")


# There is one writer, so what a statement sees is how things stand: the response is written before the outcome is.
def _takes(rows: FromClause, gone_at: Column[Any]) -> Select[Any]:
    return select(interactions.c.id).where(
        interactions.c.id == rows.c.interaction_id,
        interactions.c.owner_id == rows.c.owner_id,
        interactions.c.completed_at.is_(None),
        gone_at.is_(None),
    )


_PARTICULARS = Particulars(
    sqlite.insert,
    lambda rows: _takes(rows, interactions.c.deleted_at),
    lambda rows: _takes(rows, interactions.c.erased_at),
    locks_rows=False,
)


_Result = TypeVar("_Result")
_Order = Callable[[sqlite3.Connection], Any]


class _Writes:
    """The SQL of each statement for each number of rows; compiled once, then only its list of rows grows.

    As many texts are kept as the driver keeps statements prepared for: it knows them by their text, whose hash is kept
    with it.
    """

    def __init__(self) -> None:
        self._parts: dict[str, tuple[str, str, str]] = {}
        self._text = lru_cache(_PREPARED_STATEMENTS)(self._written)

    def execute(
        self, connection: sqlite3.Connection, statement: BatchStatement, rows: Sequence[Row]
    ) -> list[Row]:
        """Execute one statement for all rows; what it returns, if it does."""
        name = statement.name
        if name not in self._parts:
            self._parts[name] = _compiled(statement)
        found: list[Row] = []
        for start in range(0, len(rows), _LARGEST_CHUNK):
            chunk = rows[start : start + _LARGEST_CHUNK]
            sql = self._text(name, len(chunk))
            found += connection.execute(sql, tuple(itertools.chain.from_iterable(chunk)))
        return found

    def _written(self, name: str, count: int) -> str:
        before, row, after = self._parts[name]
        return f"{before}{', '.join([row] * count)}{after}"


@cache
def _compiled(statement: BatchStatement) -> tuple[str, str, str]:
    """The statement's text before its rows, one row of parameters, and the text after."""
    columns = [column(c.name, c.type) for c in statement.columns]
    parameters = tuple(bindparam(c.name, type_=c.type) for c in statement.columns)
    rows = values(*columns, name="rows").data([parameters]).cte("rows")
    compiled = compile_statement(statement.build(rows, _PARTICULARS), _DIALECT)
    row = f"({', '.join('?' * len(columns))})"
    before, _, after = compiled.string.partition(row)
    return before, row, after


class SqliteBackend:
    """One SQLite file, as a rule for one process: several write to it in turn, with no hints between them."""

    most_at_once = 1
    batches_at_once = 1
    has_hints = False

    def __init__(self, path: str, codec: Codec) -> None:
        self._path = path
        self._read_uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
        self._codec = codec
        self._writes = _Writes()
        self._queries = CompiledQueries(_DIALECT)
        self._scripts = CompiledQueries(_DIALECT)
        self._inbox: queue.SimpleQueue[tuple[_Order, Callable[[Any], None]] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers: list[aiosqlite.Connection] = []
        self._next_reader = 0
        self._sole = Sole(os.path.abspath(path))
        self._scripting = Exclusive(f"{os.path.abspath(path)}-scripts")
        self.alone_since: bytes | None = None
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Open the writer and the readers; raises :class:`DatabaseUnusable` when the file cannot be used."""
        self._loop = asyncio.get_running_loop()
        self.alone_since = self._sole.take()
        try:
            connection = await asyncio.to_thread(connect_writer, self._path)
            self._writer = threading.Thread(
                target=self._run, args=(connection,), name="store-writer", daemon=True
            )
            self._writer.start()
            for _ in range(_READERS):
                reader = await aiosqlite.connect(
                    self._read_uri, uri=True, isolation_level=None, cached_statements=64
                )
                self._readers.append(reader)
                await reader.execute(f"PRAGMA busy_timeout = {_READER_BUSY_MS}")
                await reader.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        except sqlite3.Error as error:
            raise DatabaseUnusable(
                f"SQLite cannot use the file {self._path!r} ({error}); "
                "name a file in a folder that this process may write."
            ) from error

    async def close(self) -> None:
        """Close everything; the writer last, after its inbox.

        Whoever closes a database last puts its log into the file and removes it, if it may write.
        """
        for reader in self._readers:
            await reader.close()
        self._readers.clear()
        if self._writer is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._writer.join)
            self._writer = None
        self._scripting.release()
        self._sole.release()

    def widen(self) -> None:
        """A file takes one writer at a time."""

    def commit(self, batch: Batch, told: Told) -> None:
        """Write the batch as one transaction, which is on disk when that is told."""
        self._inbox.put((lambda connection: self._write(connection, batch), told))

    async def take(
        self, query: Query, parameters: Mapping[str, Any], *, apart: bool = False
    ) -> Sequence[Sequence[Any]]:
        """What a statement that writes returns, after it is committed; all are written by the one connection."""
        sql, arguments = self._queries.prepare(query, parameters)
        try:
            rows: Sequence[Sequence[Any]] = await self._ordered(
                lambda connection: _in_transaction(
                    connection, lambda: list(connection.execute(sql, arguments))
                )
            )
        except RowRefused as error:
            raise StoreUnavailable(str(error)) from error
        return rows

    async def run(self, script: ScriptMaker) -> int | None:
        """Run a script as one transaction, between two batches of the writer."""

        def run(connection: sqlite3.Connection) -> int | None:
            if not self._scripting.is_held():
                return None
            connection.execute("PRAGMA synchronous = NORMAL")
            try:
                return _in_transaction(connection, lambda: self._run_script(connection, script))
            finally:
                connection.execute("PRAGMA synchronous = FULL")

        result: int | None = await self._ordered(run)
        return result

    def _ordered(self, order: _Order) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._inbox.put((order, partial(answer, reply)))
        return reply

    async def fetch(self, query: Query, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """All rows of a query."""
        sql, arguments = self._queries.prepare(query, parameters)
        self._next_reader = (self._next_reader + 1) % len(self._readers)
        try:
            return list(await self._readers[self._next_reader].execute_fetchall(sql, arguments))
        except (sqlite3.Error, *_UNBINDABLE) as error:
            raise StoreUnavailable(f"SQLite: {error}") from error

    async def give_back(self, *, whole: bool) -> int:
        """Shrink the file, a little at a time between what callers write; with ``whole`` all at once."""
        try:
            before: int = await self._ordered(size_of)
            if whole:
                await asyncio.to_thread(write_anew, self._path)
            else:
                await self._shrink()
            await self._ordered(copy_log)
            after: int = await self._ordered(size_of)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error}") from error
        return max(before - after, 0)

    async def _shrink(self) -> None:
        deadline = time.monotonic() + PATIENCE
        more = True
        while more:
            try:
                more = await self._ordered(shrink)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(BUSY_PAUSE)
                continue
            deadline = time.monotonic() + PATIENCE
            await asyncio.sleep(PAUSE)

    def place_of(self, upstream_id: str) -> int:
        """By the time that it tells, so that what is written together stands together."""
        return by_time(upstream_id)

    async def announce(self, topic: str) -> bool:
        """No other process can be told; one that is there looks by itself."""
        return False

    def on_news(self, callback: Callable[[str], None]) -> None:
        """Nobody tells anything."""

    def _run(self, connection: sqlite3.Connection) -> None:
        while (entry := self._inbox.get()) is not None:
            order, told = entry
            result: Any
            try:
                result = order(connection)
            except Exception as error:
                result = error
            with suppress(RuntimeError):  # the loop may be closed while the process ends
                self._loop.call_soon_threadsafe(told, result)
        connection.close()

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> Mapping[bytes, bool]:
        ready = packed(batch, self._codec)
        return _in_transaction(connection, lambda: self._execute(connection, ready))

    def _run_script(self, connection: sqlite3.Connection, script: ScriptMaker) -> int:
        steps = script()
        found: list[Row] | None = None
        while True:
            try:
                step = next(steps) if found is None else steps.send(found)
            except StopIteration as end:
                result: int = end.value
                return result
            if isinstance(step, Ask):
                found = connection.execute(*self._scripts.prepare(step.query, step.parameters)).fetchall()
                continue
            found = []
            if step.parameters:
                connection.executemany(*self._scripts.prepare_many(step.query, step.parameters))

    def _execute(self, connection: sqlite3.Connection, batch: Batch) -> Mapping[bytes, bool]:
        unwritten: list[Row] = []
        for statement, rows in batch:
            before = connection.total_changes
            self._writes.execute(connection, statement, rows)
            if statement is FINISH and connection.total_changes - before < len(rows):
                unwritten = self._writes.execute(connection, UNWRITTEN, [(row[0], row[-1]) for row in rows])
        return {key: bool(there) for key, there in unwritten}


def _in_transaction(connection: sqlite3.Connection, work: Callable[[], _Result]) -> _Result:
    try:
        connection.execute("BEGIN IMMEDIATE")
        result = work()
        connection.execute("COMMIT")
    except Exception as error:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if isinstance(error, _REFUSED):
            raise RowRefused(f"SQLite: {error}") from error
        if isinstance(error, sqlite3.Error):
            raise StoreUnavailable(f"SQLite: {error}") from error
        raise
    return result


def connect_writer(path: str) -> sqlite3.Connection:
    """The one connection that writes: durable at every commit, never waiting for readers."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=_PREPARED_STATEMENTS
    )
    connection.execute(f"PRAGMA busy_timeout = {_WRITER_BUSY_MS}")
    _log_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")
    # What was deleted is overwritten, not only forgotten.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute("PRAGMA cache_size = -16000")
    return connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL; the busy time-out does not hold for this (SQLITE_BUSY while another writes)."""
    deadline = time.monotonic() + _OPENING
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(_OPENING_PAUSE)
