"""What the indexer does with interactions that it cannot derive everything from, and how long it rests."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from service.audit.indexer import Indexer
from service.audit.pacing import Pacing
from service.audit.prices import Prices
from service.settings import Settings
from service.store.codec import Codec
from service.store.engine import open_reports
from service.store.records import USAGE_FINAL, USAGE_MISSING, Usage, now
from service.wire import ids
from tests.support.store import (
    USAGE,
    InspectableSqlite,
    OpenStore,
    intent,
    open_sqlite,
    open_store,
    outcome,
    query,
)

_TOO_MUCH = Usage(USAGE_FINAL, 1, 1, 1, 1, 1, 2**63 - 1)


async def test_figures_that_are_too_large_for_a_sum_stop_nothing_else(store_url: str) -> None:
    reports = open_reports(store_url)
    await reports.start()
    async with open_store(store_url) as opened:
        for usage in (_TOO_MUCH, _TOO_MUCH, Usage()):
            begun = intent()
            await opened.store.begin(begun, b'{"input":"hello"}')
            await opened.store.finish(outcome(begun.id, usage=usage), b"{}")
        await Indexer(opened.backend, reports, Codec(), Prices.of(Settings())).catch_up()
    await reports.close()
    assert await query(store_url, "SELECT derived_state FROM interactions") == [(2,)] * 3
    ((requests,),) = await query(
        store_url, "SELECT sum(requests) FROM rollups WHERE grain = 0 AND span = 3600000000"
    )
    assert requests == 3


async def derived(opened: OpenStore, backend: InspectableSqlite, url: str) -> int:
    """Derive from one interaction; gives SQLite's own steps for that, in hundreds."""
    begun = intent()
    await opened.store.begin(begun, b'{"input":"hello"}')
    await opened.store.finish(outcome(begun.id), b"{}")
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    reports = open_reports(url)
    await reports.start()
    backend.writing.set_progress_handler(step, 100)
    await Indexer(backend, reports, Codec(), Prices.of(Settings())).catch_up()
    backend.writing.set_progress_handler(None, 0)
    await reports.close()
    return steps


async def test_many_roll_ups_make_the_next_one_no_dearer(sqlite_url: str) -> None:
    async with open_sqlite(sqlite_url) as (opened, backend):
        before = await derived(opened, backend, sqlite_url)
        columns = (
            "project_id, grain, span, start + 1 + value, series_id, requests, errors, unmeasured, unpriced, "
        )
        columns += (
            "input_tokens, output_tokens, thought_tokens, cached_tokens, tool_use_tokens, total_tokens, "
        )
        columns += "cost_nanos, modalities, durations, first_events"
        await query(
            sqlite_url,
            "WITH RECURSIVE numbers (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers WHERE value < 5000) "
            f"INSERT INTO rollups SELECT {columns} FROM rollups, numbers",
        )
        assert await derived(opened, backend, sqlite_url) < before + 20


async def test_an_hour_is_split_though_there_is_always_something_new(store_url: str) -> None:
    reports = open_reports(store_url)
    await reports.start()
    async with open_store(store_url) as opened:

        async def recorded(key: bytes) -> None:
            await opened.store.begin(intent(key), b'{"input":"hello"}')
            await opened.store.finish(outcome(key), b"{}")

        async def always_something_new() -> None:
            """What ends now began a while ago."""
            for number in count():
                await recorded(ids.derived(now() // 1_000 - 40_000, str(number)))

        await recorded(ids.derived(now() // 1_000 - 3 * 3_600_000, "early"))
        indexer = Indexer(opened.backend, reports, Codec(), Prices.of(Settings()), idle=0.01)
        coming = asyncio.create_task(always_something_new())
        indexer.start()
        while not await query(store_url, "SELECT 1 FROM split_hours WHERE requests IS NOT NULL"):
            await asyncio.sleep(0.01)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await indexer.close()
    await reports.close()


async def test_an_hour_waits_for_usage_that_has_come_to_it(store_url: str) -> None:
    reports = open_reports(store_url)
    await reports.start()
    async with open_store(store_url) as opened:
        key = ids.derived(now() // 1_000 - 3 * 3_600_000, "early")
        await opened.store.begin(intent(key), b'{"input":"hello"}')
        await opened.store.finish(outcome(key, usage=Usage(USAGE_MISSING)), b"{}")
        indexer = Indexer(opened.backend, reports, Codec(), Prices.of(Settings()))
        assert await indexer.step() == 1
        await opened.store.held.settle_usage(key, USAGE, None)
        assert await indexer.split() == 0
        assert await indexer.step() == 1
        assert await indexer.split() == 1
        assert await indexer.split() == 0
    await reports.close()


@pytest.mark.parametrize(
    ("share", "late", "times"),
    [
        (0.05, 0.0, 2),
        (0.05, 600.0, 2),
        (0.3, 0.0, 24),
        (0.3, 30.0, 13),
        (0.3, 600.0, 2),
        (0.9, 0.0, 24),
        (0.9, 600.0, 9),
    ],
)
def test_the_rests_depend_on_what_else_the_process_does_and_on_how_late_it_is(
    share: float, late: float, times: float
) -> None:
    used, clock = iter((0.0, share, share)), iter((0.0, 1.0, 1.0))
    pacing = Pacing(used=lambda: next(used), clock=lambda: next(clock))
    pacing.rest(0.001, 0.0)
    pacing.rested()
    assert pacing.rest(0.001, late) == pytest.approx(0.001 * times)
