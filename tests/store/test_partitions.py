"""Where rows land on PostgreSQL; SQLite has one table for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.store import migrate
from service.store.engine import open_engine
from service.store.partitions import DAYS_AHEAD, create_partitions, key_at
from service.store.tables import DEFAULT_PROJECT, PARTITIONED
from service.wire import ids
from tests.support.store import completed, open_store, query

NOON = datetime(2035, 3, 10, 12, tzinfo=UTC)


def key(moment: datetime) -> bytes:
    """A key minted at that moment."""
    return UUID(int=key_at(moment).int | int.from_bytes(ids.mint()) % 2**64).bytes


async def make(url: str, moment: datetime) -> None:
    engine = open_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(create_partitions, moment)
    await engine.dispose()


async def places(url: str, moment: datetime) -> tuple[str, str]:
    """The partitions of an interaction of that moment and of its bodies."""
    minted = key(moment)
    async with open_store(url) as opened:
        await completed(opened.store, key=minted)
        record = await opened.store.find(DEFAULT_PROJECT, minted)
        assert record is not None
        assert record.response is not None
    found = await query(
        url,
        "SELECT i.tableoid::regclass::text, p.tableoid::regclass::text FROM interactions i "
        "JOIN payloads p ON p.interaction_id = i.id WHERE i.id = :id AND p.kind = 2",
        id=UUID(bytes=minted),
    )
    ((interaction, body),) = found
    return interaction, body


async def partitions(url: str, prefix: str) -> list[str]:
    found = await query(
        url,
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE :pattern ORDER BY 1",
        pattern=f"{prefix}%",
    )
    return [name for (name,) in found]


async def test_todays_rows_land_in_month_and_day(postgres_url: str) -> None:
    today = datetime.now(UTC)
    assert await places(postgres_url, today) == (f"interactions_{today:%Y%m}", f"payloads_{today:%Y%m%d}")


async def test_the_coming_days_have_their_partitions(postgres_url: str) -> None:
    last = datetime.now(UTC) + timedelta(days=DAYS_AHEAD - 1)
    assert await places(postgres_url, last) == (f"interactions_{last:%Y%m}", f"payloads_{last:%Y%m%d}")


async def test_what_falls_outside_lands_in_the_default(postgres_url: str) -> None:
    for moment in (datetime(2001, 1, 1, tzinfo=UTC), NOON):
        assert await places(postgres_url, moment) == ("interactions_default", "payloads_default")


async def test_a_range_begins_with_its_first_millisecond(own_postgres_url: str) -> None:
    await make(own_postgres_url, NOON)
    midnight = NOON.replace(hour=0)
    assert (await places(own_postgres_url, midnight))[1] == "payloads_20350310"
    before = midnight - timedelta(milliseconds=1)
    assert (await places(own_postgres_url, before))[1] == "payloads_default"
    after = midnight + timedelta(days=1)
    assert (await places(own_postgres_url, after))[1] == "payloads_20350311"


async def test_ranges_cross_months_and_years(own_postgres_url: str) -> None:
    await make(own_postgres_url, datetime(2035, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert await partitions(own_postgres_url, "interactions_203") == [
        "interactions_203512",
        "interactions_203601",
    ]
    days = await partitions(own_postgres_url, "events_203")
    assert (days[0], days[1], days[-1]) == ("events_20351231", "events_20360101", "events_20360114")
    assert len(days) == DAYS_AHEAD + 1


async def test_making_partitions_is_repeatable(own_postgres_url: str) -> None:
    await make(own_postgres_url, NOON)
    before = await partitions(own_postgres_url, "payloads_")
    await make(own_postgres_url, NOON)
    assert await partitions(own_postgres_url, "payloads_") == before
    await make(own_postgres_url, NOON + timedelta(days=1))
    added = set(await partitions(own_postgres_url, "payloads_")) - set(before)
    assert added == {"payloads_20350325"}


@asynccontextmanager
async def read_through(url: str) -> AsyncIterator[None]:
    """A reader of everything that takes its time, as a dump does."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {', '.join(PARTITIONED)} IN ACCESS SHARE MODE")
            yield
    finally:
        await connection.close()


@pytest.mark.parametrize("work", [migrate.maintain, migrate.upgrade])
async def test_behind_a_long_reader_partitions_are_put_off(
    own_postgres_url: str, work: Callable[[str], Coroutine[Any, Any, None]], caplog: pytest.LogCaptureFixture
) -> None:
    coming = f"payloads_{datetime.now(UTC) + timedelta(days=DAYS_AHEAD - 1):%Y%m%d}"
    await query(own_postgres_url, f"DROP TABLE {coming}")
    async with open_store(own_postgres_url) as opened, read_through(own_postgres_url):
        working = asyncio.create_task(work(own_postgres_url))
        while not working.done():
            await completed(opened.store)
        await working
        assert opened.writer.statistics.retries == 0
    assert "tried again later" in caplog.text
    assert coming not in await partitions(own_postgres_url, "payloads_")
    await work(own_postgres_url)
    assert coming in await partitions(own_postgres_url, "payloads_")


async def test_traffic_passes_while_a_partition_waits_for_its_table(own_postgres_url: str) -> None:
    async with open_store(own_postgres_url) as opened, read_through(own_postgres_url):
        making = asyncio.create_task(make(own_postgres_url, NOON))
        while not making.done():
            await completed(opened.store)
        await making
    await make(own_postgres_url, NOON)
    assert len(await partitions(own_postgres_url, "payloads_2035")) == DAYS_AHEAD + 1


async def test_a_role_that_may_make_no_tables_can_start(
    own_postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await query(own_postgres_url, f"DROP TABLE payloads_{datetime.now(UTC):%Y%m%d}")
    role = f"r{ids.mint().hex()}"
    await query(own_postgres_url, f"CREATE ROLE {role} LOGIN")
    await query(own_postgres_url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    url = own_postgres_url.replace("//postgres:", f"//{role}:", 1)
    await migrate.upgrade(url)
    assert "partitions could not be made" in caplog.text
    async with open_store(url) as opened:
        await completed(opened.store)
    assert await query(url, "SELECT count(*) FROM payloads_default") == [(2,)]
    await query(own_postgres_url, f"DROP OWNED BY {role}")
    await query(own_postgres_url, f"DROP ROLE {role}")


async def test_an_attached_partition_is_like_the_first_ones(own_postgres_url: str) -> None:
    await make(own_postgres_url, NOON)
    storage = (
        "SELECT attstorage FROM pg_attribute WHERE attrelid = CAST(:name AS regclass) AND attname = 'body'"
    )
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = CAST(:name AS regclass)"
    for look in (storage, indexes):
        first = await query(own_postgres_url, look, name="payloads_default")
        assert await query(own_postgres_url, look, name="payloads_20350310") == first


async def test_a_range_whose_rows_stand_in_the_default_is_skipped(own_postgres_url: str) -> None:
    assert await places(own_postgres_url, NOON + timedelta(days=1)) == (
        "interactions_default",
        "payloads_default",
    )
    await make(own_postgres_url, NOON)
    assert await partitions(own_postgres_url, "interactions_2035") == []
    days = await partitions(own_postgres_url, "payloads_2035")
    assert "payloads_20350310" in days
    assert "payloads_20350311" not in days
    assert len(days) == DAYS_AHEAD
    # Bodies of one interaction may be apart from it and from each other: keys find them all the same.
    assert await places(own_postgres_url, NOON) == ("interactions_default", "payloads_20350310")
    await migrate.maintain(own_postgres_url)
