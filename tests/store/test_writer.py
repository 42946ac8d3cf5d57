from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.errors import ServiceUnavailable, StoreError
from service.store.backend import committed
from service.store.entries import Write
from service.store.records import Intent, Usage
from service.store.statements import FINISH, INSERT_INTENT, INSERT_REQUEST
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.support.store import OpenStore, completed, intent, open_store, outcome, query, running


def nameless(begun: Intent) -> Write:
    """The intent without what every row must have."""
    columns = [column.name for column in INSERT_INTENT.columns]
    row = list(begun.row(1))
    row[columns.index("status")] = None
    return INSERT_INTENT, tuple(row)


def overflowing(begun: Intent) -> Write:
    return FINISH, outcome(begun.id, usage=Usage(1, 2**63)).row(1)


def unencodable(begun: Intent) -> Write:
    return FINISH, outcome(begun.id, model="\ud800").row(1)


async def count(url: str) -> int:
    ((number,),) = await query(url, "SELECT count(*) FROM interactions")
    return int(number)


async def test_one_caller_pays_one_commit(opened: OpenStore) -> None:
    for _ in range(10):
        await opened.store.begin(intent(), b"{}")
    assert (opened.writer.statistics.batches, opened.writer.statistics.entries) == (10, 10)


@pytest.mark.parametrize("callers", [2, 3])
async def test_callers_of_one_moment_share_one_commit(opened: OpenStore, callers: int) -> None:
    for _ in range(10):
        before = opened.writer.statistics.batches
        await asyncio.gather(*(opened.store.begin(intent(), b"{}") for _ in range(callers)))
        assert opened.writer.statistics.batches == before + 1


async def test_many_callers_share_few_commits(opened: OpenStore, store_url: str) -> None:
    await asyncio.gather(*(opened.store.begin(intent(), b"{}") for _ in range(1000)))
    assert opened.writer.statistics.entries == 1000
    assert opened.writer.statistics.batches <= 8
    assert await count(store_url) == 1000


async def test_a_batch_has_a_limit_in_bytes(opened: OpenStore) -> None:
    body = bytes(12 * 1024 * 1024)
    begun = [intent() for _ in range(6)]
    await asyncio.gather(
        *(
            opened.writer.put((INSERT_INTENT, one.row(1)), (INSERT_REQUEST, (one.id, body)), patience=60)
            for one in begun
        )
    )
    assert opened.writer.statistics.batches == 2


async def test_callers_that_keep_coming_are_all_served(opened: OpenStore, store_url: str) -> None:
    async def caller() -> None:
        for _ in range(20):
            await completed(opened.store)

    await asyncio.gather(*(caller() for _ in range(16)))
    assert await count(store_url) == 320
    assert opened.writer.statistics.entries == 640
    assert opened.writer.statistics.batches < 320
    assert opened.writer.depth == 0


@pytest.mark.parametrize("poison", [nameless, overflowing, unencodable])
async def test_a_poisoned_row_fails_alone(opened: OpenStore, store_url: str, poison: Any) -> None:
    sick = intent()
    await opened.store.begin(sick, b"{}")
    healthy = [intent() for _ in range(40)]
    results = await asyncio.gather(
        *(opened.store.begin(one, b"{}") for one in healthy[:25]),
        opened.writer.put(poison(sick if poison is not nameless else intent()), patience=5),
        *(opened.store.begin(one, b"{}") for one in healthy[25:]),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result is not None] == [StoreError]
    assert isinstance(results[25], StoreError)
    assert await count(store_url) == 41
    assert opened.writer.statistics.refused == 1
    assert opened.writer.statistics.retries == 0


async def test_several_poisoned_rows_fail_each_alone(opened: OpenStore, store_url: str) -> None:
    sick = [opened.writer.put(nameless(intent()), patience=5) for _ in range(5)]
    healthy = [opened.store.begin(intent(), b"{}") for _ in range(5)]
    mixed = [one for pair in zip(sick, healthy, strict=True) for one in pair]
    results = await asyncio.gather(*mixed, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, type(None)] * 5
    assert await count(store_url) == 5


async def test_writes_of_one_caller_stand_or_fall_together(opened: OpenStore, store_url: str) -> None:
    begun = intent()
    with pytest.raises(StoreError):
        await opened.writer.put(
            (INSERT_INTENT, begun.row(1)), (INSERT_REQUEST, (begun.id, b"{}")), overflowing(begun), patience=5
        )
    assert await count(store_url) == 0
    assert await opened.store.request_of(begun.id) is None


async def test_a_refused_row_leaves_the_writer_ready(opened: OpenStore) -> None:
    with pytest.raises(StoreError):
        await opened.writer.put(overflowing(intent(await completed(opened.store))), patience=5)
    key = await completed(opened.store)
    assert await opened.store.find(DEFAULT_PROJECT, key) is not None


async def test_of_two_outcomes_at_once_the_first_terminal_one_stands_whole(opened: OpenStore) -> None:
    for _ in range(10):
        begun = intent()
        await opened.store.begin(begun, b"{}")
        await asyncio.gather(
            opened.store.finish(running(begun.id), b"running"),
            opened.store.finish(outcome(begun.id, status="cancelled"), b"cancelled"),
            opened.store.finish(outcome(begun.id, status="completed"), b"completed"),
            opened.store.finish(running(begun.id), b"late"),
        )
        record = await opened.store.find(DEFAULT_PROJECT, begun.id)
        assert record is not None
        assert (record.status, record.response) == ("cancelled", b"cancelled")


async def test_a_caller_that_leaves_stops_nothing(opened: OpenStore) -> None:
    begun, other = intent(), intent()
    leaving = asyncio.create_task(opened.store.begin(begun, b"{}"))
    staying = asyncio.create_task(opened.store.begin(other, b"{}"))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await opened.store.find(DEFAULT_PROJECT, begun.id) is not None
    assert await opened.store.find(DEFAULT_PROJECT, other.id) is not None


async def test_new_work_is_shed_at_the_limit_and_outcomes_are_not(store_url: str) -> None:
    async with open_store(store_url, limit=3) as opened:
        key = await completed(opened.store)
        begun = intent()
        await opened.store.begin(begun, b"{}")
        results = await asyncio.gather(
            *(opened.store.begin(intent(), b"{}") for _ in range(5)),
            opened.store.finish(outcome(begun.id), b"{}"),
            opened.store.delete(key, 1, None),
            return_exceptions=True,
        )
        assert results[:3] == [None] * 3
        for refused in results[3:5]:
            assert isinstance(refused, ServiceUnavailable)
            assert (refused.status, refused.retry_after) == (503, 1)
        assert results[5:] == [None, ()]
        assert opened.writer.statistics.shed == 2
        assert await count(store_url) == 5


async def test_closing_commits_what_is_queued_and_takes_no_more(store_url: str) -> None:
    async with open_store(store_url) as opened:
        queued = [asyncio.create_task(opened.store.begin(intent(), b"{}")) for _ in range(600)]
        await asyncio.sleep(0)
        await opened.writer.close()
        assert await count(store_url) == 600
        await asyncio.gather(*queued)
        with pytest.raises(ServiceUnavailable):
            await opened.store.begin(intent(), b"{}")


async def test_sqlite_writes_batches_of_every_size(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        written = 0
        for size in (1, 2, 3, 7, 255, 256):
            rows = [intent(ids.mint()).row(1) for _ in range(size)]
            await committed(opened.backend, [(INSERT_INTENT, rows)])
            written += size
        assert await count(sqlite_url) == written
