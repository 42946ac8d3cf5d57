"""When a process knows that it lives."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from sqlalchemy import text

from service.interactions.life import Life
from service.store.engine import open_engine
from tests.support.store import is_sqlite, open_store


async def test_who_was_slow_to_begin_is_not_sure_that_it_lives(database_url: str) -> None:
    lease, engine = 0.5, open_engine(database_url)
    lock = "BEGIN IMMEDIATE" if is_sqlite(database_url) else "LOCK TABLE leases IN EXCLUSIVE MODE"
    async with open_store(database_url) as opened, AsyncExitStack() as running:
        running.push_async_callback(engine.dispose)
        life = Life(opened.store.held, lease)
        running.push_async_callback(life.end)
        async with engine.connect() as connection:
            await connection.execute(text(lock))
            beginning = asyncio.create_task(life.begin())
            await asyncio.sleep(lease)
            await connection.rollback()
        await beginning
        assert not life.is_sure
        await life.sure()
        assert life.is_sure
