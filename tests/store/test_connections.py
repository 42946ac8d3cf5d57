"""How many connections a process takes from a PostgreSQL that others need as well."""

from __future__ import annotations

import asyncio

from service.store.entries import Write
from service.store.postgres import PostgresBackend
from service.store.statements import INSERT_INTENT, INSERT_REQUEST
from tests.support.database import Database
from tests.support.gateway import eventually
from tests.support.store import intent, open_store, query

_WRITERS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'interactions writer'"
)


async def test_there_are_as_many_that_write_as_were_needed_at_once(own_postgres_url: str) -> None:
    async def writers() -> int:
        ((count,),) = await query(own_postgres_url, _WRITERS)
        return int(count)

    async def all_write() -> bool:
        return await writers() == PostgresBackend.batches_at_once

    database = Database(own_postgres_url)
    async with open_store(own_postgres_url) as opened:
        for _ in range(3):
            await opened.store.begin(intent(), b"{}")
        assert await writers() == 1
        async with database.held():
            waiting = []
            for _ in range(PostgresBackend.batches_at_once + 2):
                made = intent()
                writes: tuple[Write, Write] = (INSERT_INTENT, made.row(2)), (INSERT_REQUEST, (made.id, b"{}"))
                waiting.append(asyncio.create_task(opened.writer.put(*writes, patience=60)))
                await asyncio.sleep(0.01)
            await eventually(all_write)
        await asyncio.gather(*waiting)
        assert await all_write()
    await database.close()
