"""The database of a service under test, through a connection of the test's own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import orjson
from sqlalchemy import NullPool, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.store.codec import Codec
from service.store.engine import normalised_url
from service.store.records import now
from service.store.tables import REQUEST_PAYLOAD, RESPONSE_PAYLOAD, events, interactions, leases, payloads
from service.wire import ids

Row = dict[str, Any]

_DERIVED = frozenset({"derived_state", "cost_nanos", "usage_detail", "series_id"})


class Database:
    """Reads what is committed, and stands in the way of writers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._codec = Codec()
        # A look is from outside: it can only see what another process would see.
        self._engine: AsyncEngine = _engine(url)

    @property
    def name(self) -> str:
        return self._engine.url.database or ""

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    async def is_writable(self) -> bool:
        """Whether no other process holds the lock of a SQLite file now."""

        def look() -> bool:
            with closing(sqlite3.connect(self._engine.url.database or "", timeout=0.0)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    return False
                connection.rollback()
                return True

        return await asyncio.to_thread(look)

    async def row(self, interaction_id: str) -> Row:
        """The row of an interaction, which must be there."""
        async with self._engine.connect() as connection:
            chosen = select(interactions).where(interactions.c.id == ids.from_text(interaction_id))
            return dict((await connection.execute(chosen)).mappings().one())

    async def rows(self) -> list[Row]:
        """All rows, oldest first."""
        async with self._engine.connect() as connection:
            found = await connection.execute(select(interactions).order_by(interactions.c.id))
            return [dict(row) for row in found.mappings()]

    async def told(self) -> dict[str, Row]:
        """The rows by the ids of their interactions, without what is derived from them behind the writes."""
        return {
            ids.to_text(row["id"]): {name: value for name, value in row.items() if name not in _DERIVED}
            for row in await self.rows()
        }

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[AsyncConnection]:
        """A connection for a look of the test's own."""
        async with self._engine.connect() as connection:
            yield connection

    async def notes(self, kind: str) -> int:
        """How many notes of a kind there are."""
        async with self._engine.connect() as connection:
            chosen = select(func.count()).select_from(leases).where(leases.c.kind == kind)
            return (await connection.execute(chosen)).scalar_one()

    async def count(self) -> int:
        """How many interactions there are."""
        async with self._engine.connect() as connection:
            return (await connection.execute(select(func.count()).select_from(interactions))).scalar_one()

    async def request(self, interaction_id: str) -> bytes | None:
        """The request as it is stored."""
        return (await self.bodies(interaction_id)).get(REQUEST_PAYLOAD)

    async def request_of_row(self, row: Row) -> dict[str, Any]:
        """The request of an interaction by its row."""
        raw = await self.request(ids.to_text(row["id"]))
        request: dict[str, Any] = orjson.loads(raw or b"{}")
        return request

    async def response(self, interaction_id: str) -> bytes | None:
        """The response as it is stored."""
        return (await self.bodies(interaction_id)).get(RESPONSE_PAYLOAD)

    async def bodies(self, interaction_id: str) -> dict[int, bytes]:
        """Every stored body of an interaction, by kind."""
        async with self._engine.connect() as connection:
            columns = (payloads.c.kind, payloads.c.codec, payloads.c.size, payloads.c.body)
            key = ids.from_text(interaction_id)
            found = await connection.execute(select(*columns).where(payloads.c.interaction_id == key))
            return {kind: self._codec.unpack(codec, size, body) for kind, codec, size, body in found}

    async def log(self, interaction_id: str) -> list[tuple[int, int, bytes]]:
        """The batches of an interaction's event log: first and last seq, and the bytes."""
        key = ids.from_text(interaction_id)
        chosen = select(events).where(events.c.interaction_id == key).order_by(events.c.first_seq)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(chosen)).mappings().all()
        return [
            (row["first_seq"], row["last_seq"], self._codec.unpack(row["codec"], row["size"], row["body"]))
            for row in rows
        ]

    async def tombstone(self, interaction_id: str) -> None:
        """Leave what a process leaves that dies in the middle of a delete."""
        deleted = update(interactions).where(interactions.c.id == ids.from_text(interaction_id))
        async with self._engine.begin() as connection:
            await connection.execute(deleted.values(deleted_at=now()))

    async def erase(self, interaction_id: str) -> None:
        """Leave what a delete leaves of an interaction that nothing needs."""
        key = ids.from_text(interaction_id)
        async with self._engine.begin() as connection:
            erased = update(interactions).where(interactions.c.id == key)
            await connection.execute(erased.values(deleted_at=now(), erased_at=now()))
            await connection.execute(delete(payloads).where(payloads.c.interaction_id == key))

    async def damage(self, interaction_id: str) -> None:
        """Take the response of an interaction away, which nothing ever does."""
        lost = delete(payloads).where(
            payloads.c.interaction_id == ids.from_text(interaction_id), payloads.c.kind == RESPONSE_PAYLOAD
        )
        async with self._engine.begin() as connection:
            await connection.execute(lost)

    async def give_away(self, interaction_id: str) -> None:
        """Make an interaction another project's."""
        foreign = update(interactions).where(interactions.c.id == ids.from_text(interaction_id))
        async with self._engine.begin() as connection:
            await connection.execute(foreign.values(project_id=ids.mint()))

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Nobody else can write an interaction meanwhile; they wait."""
        lock = "BEGIN IMMEDIATE" if self.is_sqlite else "LOCK TABLE interactions IN EXCLUSIVE MODE"
        async with self._engine.connect() as connection:
            await connection.execute(text(lock))
            try:
                yield
            finally:
                await connection.rollback()

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Nothing can be written meanwhile: SQLite's file is locked, PostgreSQL takes no connections."""
        if self.is_sqlite:
            async with self.held():
                yield
            return
        url = self._engine.url
        name = url.database
        administration = create_async_engine(
            url.set(database="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )

        async def say(statement: str) -> None:
            async with administration.connect() as connection:
                await connection.execute(text(statement), {"name": name})

        # However little of it is done before something fails: other tests need the database.
        try:
            await say(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await say("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            yield
        finally:
            await say(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            await administration.dispose()

    async def close(self) -> None:
        await self._engine.dispose()


def _engine(url: str) -> AsyncEngine:
    """Connections that are kept where one takes long to make; whoever has a SQLite file open keeps it from others."""
    normalised = normalised_url(url)
    if normalised.drivername.startswith("sqlite"):
        return create_async_engine(normalised, poolclass=NullPool)
    return create_async_engine(normalised, pool_pre_ping=True)
