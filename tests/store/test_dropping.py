"""Whole days are dropped on PostgreSQL, and only when nothing of them is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from service.interactions.retention import Report, Retention
from service.settings.model import RetentionRule
from service.store.engine import open_engine
from service.store.partitions import create_partitions, key_at
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.support.store import completed, derived, open_store, query

#: Long before the partitions of this day.
FIRST = datetime(2024, 5, 6, tzinfo=UTC)
RULE = RetentionRule(keep=86_400.0)


def minted(day: int) -> bytes:
    """A key of one of the days, at noon."""
    moment = key_at(FIRST + timedelta(days=day, hours=12)).int
    return UUID(int=moment | int.from_bytes(ids.mint()) % 2**64).bytes


async def made(url: str) -> None:
    engine = open_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(create_partitions, FIRST)
    await engine.dispose()


async def days(url: str, table: str) -> set[int]:
    """The days whose partitions are there."""
    rows = await query(url, "SELECT relname FROM pg_class WHERE relname LIKE :name", name=f"{table}_2024%")
    names = {name.rpartition("_")[2] for (name,) in rows}
    return {day for day in range(14) if f"{FIRST + timedelta(days=day):%Y%m%d}" in names}


async def applied(store: Store, url: str) -> Report:
    await derived(url)
    return await Retention(store, (RULE,), url).run()


async def test_days_of_which_nothing_is_needed_are_dropped(own_postgres_url: str) -> None:
    url = own_postgres_url
    await made(url)
    async with open_store(url) as opened:
        store = opened.store
        plain = [await completed(store, key=minted(day)) for day in (0, 0, 1)]
        held = await completed(store, key=minted(2))
        hold = await store.holds.place(DEFAULT_PROJECT, key=held)
        parent = await completed(store, key=minted(3))
        child = await completed(store, previous_id=parent, root_id=parent, depth=1)
        report = await applied(store, url)
        assert report.expired == len([*plain, parent])
        kept = {2, 3}
        assert await days(url, "payloads") == kept
        assert await days(url, "events") == kept
        assert f"payloads_{FIRST:%Y%m%d}" in report.partitions
        assert await store.find(DEFAULT_PROJECT, held) is not None
        assert (await store.chain(DEFAULT_PROJECT, child))[0].request is not None
        # Rows with the figures of what is gone are still there.
        assert (await query(url, "SELECT count(*) FROM interactions WHERE expired_at IS NOT NULL"))[0][0] == 4
        await store.holds.release(hold)
        assert (await applied(store, url)).expired == 1
        assert await days(url, "payloads") == {3}
        # What comes for a day that was dropped has a place all the same.
        late = await completed(store, key=minted(0))
        assert await store.find(DEFAULT_PROJECT, late) is not None


async def test_a_day_that_somebody_reads_is_put_off(own_postgres_url: str) -> None:
    url = own_postgres_url
    await made(url)
    reader = await asyncpg.connect(url)
    try:
        async with open_store(url) as opened:
            await completed(opened.store, key=minted(0))
            async with reader.transaction():
                await reader.fetch("SELECT count(*) FROM payloads")
                report = await applied(opened.store, url)
            assert (report.expired, report.erased) == (1, 1)
            assert 0 in await days(url, "payloads")
            assert 0 not in await days(url, "events")
            await applied(opened.store, url)
            assert await days(url, "payloads") == set()
    finally:
        await reader.close()
