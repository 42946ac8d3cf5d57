"""How many connections that write a process takes from a PostgreSQL that others need as well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from service.store.entries import Write
from service.store.postgres_writers import MOST
from service.store.statements import INSERT_INTENT, INSERT_REQUEST
from tests.support.database import Database
from tests.support.gateway import eventually
from tests.support.pauses import rest
from tests.support.store import OpenStore, intent, open_store, query

_WRITERS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'interactions writer'"
)


@pytest.fixture
async def database(own_postgres_url: str) -> AsyncIterator[Database]:
    made = Database(own_postgres_url)
    yield made
    await made.close()


async def writers(database: Database) -> int:
    ((count,),) = await query(database.url, _WRITERS)
    return int(count)


async def put(opened: OpenStore) -> asyncio.Task[None]:
    """Hand in an intent, in a batch of its own where one can be written beside others."""
    made = intent()
    writes: tuple[Write, Write] = (INSERT_INTENT, made.row(2)), (INSERT_REQUEST, (made.id, b"{}"))
    writing = asyncio.create_task(opened.writer.put(*writes, patience=60))
    await rest(0.05)
    return writing


async def test_there_are_as_many_as_were_needed_at_once(database: Database) -> None:
    async with open_store(database.url) as opened:
        for _ in range(3):
            await (await put(opened))
        assert await writers(database) == 1
        async with database.held():
            waiting = [await put(opened)]
            for count in range(2, MOST + 1):
                waiting.append(await put(opened))

                async def there_is_one_more(count: int = count) -> bool:
                    return opened.backend.batches_at_once == count

                await eventually(there_is_one_more)
                waiting.append(await put(opened))
            waiting.append(await put(opened))
        await asyncio.gather(*waiting)
        assert await writers(database) == opened.backend.batches_at_once == MOST
        assert opened.writer.statistics.retries == 0


async def test_a_server_that_gives_no_more_holds_up_nobody(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = database.url.replace(f"/{database.name}", "/postgres")
    async with open_store(database.url) as opened:
        async with database.held():
            await query(server, f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false')
            try:
                waiting = [await put(opened), await put(opened)]

                async def is_refused() -> bool:
                    return "gives no further connection" in caplog.text

                await eventually(is_refused)
                waiting.append(await put(opened))
            finally:
                await query(server, f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS true')
        await asyncio.gather(*waiting)
        assert opened.backend.batches_at_once == 1
        assert (opened.writer.statistics.retries, opened.writer.statistics.refused) == (0, 0)
