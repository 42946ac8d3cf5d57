"""An open store on a real database, the rows to put into it, and a look past it with plain SQL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import asyncpg
from sqlalchemy import text

from service.store.adoption import Adopted
from service.store.backend import Backend, StoreUnavailable
from service.store.codec import Codec
from service.store.engine import normalised_url, open_backend
from service.store.postgres import PostgresBackend
from service.store.postgres_batches import DIALECT
from service.store.queries import compile_statement
from service.store.records import USAGE_FINAL, Intent, Outcome, Usage, now
from service.store.remit import Remit
from service.store.sqlite import SqliteBackend
from service.store.statement import Query
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT, NOBODY
from service.store.writer import Writer
from service.wire import ids

#: Seconds that a look waits for a SQLite file that somebody writes.
_BUSY_SECONDS: Final = 30

#: The name upstream has for what was made elsewhere.
UPSTREAM_ID: Final = "v1_elsewhere"

#: The remit of a process to which no interaction is a stranger.
ANYTHING: Final = Remit("[]", 2**62)
USAGE = Usage(USAGE_FINAL, 11, 22, 3, 4, 5, 45)


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store with the parts that tests look at."""

    store: Store
    writer: Writer
    backend: Backend


class InspectableSqlite(SqliteBackend):
    """SQLite whose writing connection can be asked, and limited, from outside, and one of whose reads can fail."""

    writing: sqlite3.Connection
    unreadable: Query | None = None
    #: What its readers have done so far, in hundreds of SQLite's own steps.
    steps: int = 0

    async def start(self) -> None:
        await super().start()
        for reader in self._readers:
            await reader.set_progress_handler(self._step, 100)

    def _step(self) -> int:
        self.steps += 1
        return 0

    async def fetch(self, query: Query, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        if query is self.unreadable:
            raise StoreUnavailable("the test lets it fail")
        return await super().fetch(query, parameters)

    def _run(self, connection: sqlite3.Connection) -> None:
        self.writing = connection
        super()._run(connection)


def adopted(name: str = UPSTREAM_ID, parent: Adopted | None = None, **changes: Any) -> Adopted:
    """An interaction that was made elsewhere, in November 2023."""
    moment = now()
    plain = Adopted(
        id=ids.derived(1_700_000_000_000, name),
        project_id=DEFAULT_PROJECT,
        key_id=None,
        previous_id=parent.id if parent else None,
        root_id=(parent.root_id or parent.id) if parent else None,
        depth=parent.depth + 1 if parent else 0,
        created_at=1_700_000_000_000_000,
        background=False,
        model="gemini-flash",
        agent=None,
        deployment_id="dep-1",
        upstream_id=name,
        status="completed",
        service_tier=None,
        http_status=200,
        error_code=None,
        error_message=None,
        attempts='[{"adopted":1700000000000000,"deployment":"dep-1"}]',
        updated_at=moment,
        completed_at=moment,
        request=b'{"input":"the request"}',
        response=b'{"status":"completed"}',
    )
    return plain._replace(**changes)


@asynccontextmanager
async def open_store(url: str, *, limit: int = 10_000, byte_limit: int = 2**28) -> AsyncIterator[OpenStore]:
    """The store of a migrated database."""
    codec = Codec()
    async with _open(open_backend(url, codec, pool_limit=3), codec, limit, byte_limit) as opened:
        yield opened


@asynccontextmanager
async def open_sqlite(url: str) -> AsyncIterator[tuple[OpenStore, InspectableSqlite]]:
    """The same on SQLite, with its backend."""
    codec = Codec()
    backend = InspectableSqlite(sqlite_path(url), codec)
    async with _open(backend, codec, 10_000, 2**28) as opened:
        yield opened, backend


@asynccontextmanager
async def _open(backend: Backend, codec: Codec, limit: int, byte_limit: int) -> AsyncIterator[OpenStore]:
    await backend.start()
    writer = Writer(backend, limit=limit, byte_limit=byte_limit)
    try:
        yield OpenStore(Store(backend, writer, codec), writer, backend)
    finally:
        await writer.close()
        await backend.close()


async def statements_read(backend: Backend) -> list[str]:
    """The reads that reach the database from now on, one after the other, as its driver reports them."""
    sent: list[str] = []
    if isinstance(backend, SqliteBackend):
        for reader in backend._readers:
            await reader.set_trace_callback(sent.append)
    else:
        assert isinstance(backend, PostgresBackend)
        assert backend._pool is not None
        # The pool hands out first what it got back last.
        async with backend._pool.acquire() as connection:
            connection.add_query_logger(lambda record: sent.append(record.query))
    return sent


def sqlite_path(url: str) -> str:
    """The file of a SQLite URL."""
    return normalised_url(url).database or ""


def is_sqlite(url: str) -> bool:
    """Whether this is the URL of a SQLite database."""
    return url.startswith("sqlite")


def literal(url: str, key: bytes) -> str:
    """A key in plain SQL."""
    return f"x'{key.hex()}'" if is_sqlite(url) else f"'{key.hex()}'"


async def query(url: str, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own and commit it; its rows if it has any."""
    if is_sqlite(url):
        return await asyncio.to_thread(_query_file, sqlite_path(url), statement, parameters)
    compiled = compile_statement(text(statement), DIALECT)
    connection = await asyncpg.connect(url)
    try:
        arguments = [parameters[name] for name in compiled.positiontup or ()]
        return [tuple(row) for row in await connection.fetch(compiled.string, *arguments)]
    finally:
        await connection.close()


def _query_file(path: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


async def derived(url: str) -> None:
    """Say of everything that has ended that all has been derived from it, as the indexer of a service does."""
    await query(url, "UPDATE interactions SET derived_state = 2 WHERE completed_at IS NOT NULL")


#: Depths of interactions that follow others.
_DEPTHS: Final = count(1)


def intent(key: bytes | None = None, **changes: Any) -> Intent:
    """An intent of a plain unary create; one that follows another is deeper than all before it."""
    plain = Intent(
        id=key or ids.mint(),
        project_id=DEFAULT_PROJECT,
        key_id=None,
        previous_id=None,
        root_id=None,
        depth=0,
        created_at=now(),
        revision=1,
        stream=False,
        background=False,
        store=True,
        model_requested="gemini-flash",
        agent=None,
        labels=None,
        deployment_id="dep-1",
        upstream_stored=True,
        owner_id=NOBODY,
    )
    if changes.get("previous_id") is not None:
        changes.setdefault("depth", next(_DEPTHS))
    return plain._replace(**changes)


def outcome(key: bytes, **changes: Any) -> Outcome:
    """The outcome of an interaction that upstream completed."""
    moment = now()
    plain = Outcome(
        id=key,
        deployment_id="dep-1",
        upstream_id=f"v1_{key.hex()}",
        upstream_stored=True,
        status="completed",
        model="gemini-2.5-flash",
        service_tier="standard",
        http_status=200,
        error_code=None,
        error_message=None,
        attempts="[]",
        updated_at=moment,
        first_byte_at=moment,
        completed_at=moment,
        usage=USAGE,
        owner_id=NOBODY,
    )
    return plain._replace(**changes)


def running(key: bytes, **changes: Any) -> Outcome:
    """What is known of an interaction that upstream still works on."""
    return outcome(key, status="in_progress", completed_at=None, usage=Usage(), **changes)


async def completed(store: Store, /, *, response: bytes = b'{"status":"completed"}', **changes: Any) -> bytes:
    """An interaction that went well; returns its key."""
    begun = intent(**changes)
    await store.begin(begun, b'{"input":"hello"}')
    await store.finish(outcome(begun.id), response)
    return begun.id
