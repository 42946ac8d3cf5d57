"""A request is being stored without what its base has while the base is deleted: it is never without both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from service.store import deletion
from service.store.backend import committed
from service.store.records import Intent, now
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from tests.store.test_inputs import bases, said, sent
from tests.support.stateless import Client
from tests.support.store import OpenStore, intent, open_store, outcome, query


def turns() -> tuple[bytes, bytes, bytes]:
    """Three requests, each of which begins with the one before."""
    *_, (one, _), (two, _), (three, _) = Client().turns(9)
    return one, two, three


async def payloads(url: str) -> int:
    ((count,),) = await query(url, "SELECT count(*) FROM payloads WHERE kind = 1")
    return int(count)


@pytest.fixture
async def replicas(postgres_url: str) -> AsyncIterator[tuple[OpenStore, OpenStore]]:
    async with open_store(postgres_url) as first, open_store(postgres_url) as second:
        yield first, second


@asynccontextmanager
async def nothing_shared_is_written(url: str) -> AsyncIterator[None]:
    """Whoever writes to ``inputs`` meanwhile waits, in the order they came."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE inputs IN SHARE MODE")
            yield
    finally:
        await connection.close()


async def until_waiting(url: str, number: int) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while await query(url, waiting) != [(number,)]:
        await asyncio.sleep(0.01)


async def begin(store: Store, begun: Intent, request: bytes) -> None:
    await store.begin(begun, request, listed=True)


async def delete(store: Store, key: bytes) -> None:
    await store.delete(key, now(), None)


@pytest.mark.parametrize("order", ["begin first", "delete first"])
async def test_a_base_that_is_erased_before_the_intent_is_there_is_not_needed(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str, order: str
) -> None:
    one, two, _ = turns()
    base, begun = await said(replicas[0].store, one), intent()
    acts: list[Callable[[], Awaitable[None]]] = [
        lambda: begin(replicas[0].store, begun, two),
        lambda: delete(replicas[1].store, base),
    ]
    if order == "delete first":
        # Its tombstone is there before the other looks for a base.
        acts.reverse()
    async with asyncio.TaskGroup() as group, nothing_shared_is_written(postgres_url):
        for number, act in enumerate(acts):
            group.create_task(_do(act))
            await until_waiting(postgres_url, number + 1)
    assert await replicas[1].store.request_of(base) is None
    assert await replicas[1].store.request_of(begun.id) == two
    assert await bases(postgres_url) == {begun.id: None}


async def _do(act: Callable[[], Awaitable[None]]) -> None:
    await act()


async def test_a_tombstone_that_is_not_followed_by_erasing_is_seen(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    one, two, three = turns()
    base, begun = await said(replicas[0].store, one), intent()
    async with asyncio.TaskGroup() as group, nothing_shared_is_written(postgres_url):
        group.create_task(begin(replicas[0].store, begun, two))
        await until_waiting(postgres_url, 1)
        # The process that deletes dies after its first transaction.
        await committed(replicas[1].backend, [(deletion.TOMBSTONE, [(base, now(), None, 0)])])
    # Who gave it up has erased it as well.
    assert await bases(postgres_url) == {begun.id: None}
    assert await replicas[1].store.request_of(begun.id) == two
    following = await said(replicas[1].store, three)
    assert (await bases(postgres_url))[following] == begun.id
    assert await replicas[0].store.request_of(following) == three


async def test_a_delete_after_the_intent_keeps_the_base_until_the_last_that_needs_it_is_gone(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    one, two, three = turns()
    first = await said(replicas[0].store, one)
    second = await said(replicas[1].store, two)
    third = await sent(replicas[0].store, three)
    for key in (first, second):
        await delete(replicas[1].store, key)
        assert await replicas[0].store.find(DEFAULT_PROJECT, key) is None
    assert await replicas[0].store.request_of(third) == three
    assert await payloads(postgres_url) == 3
    await delete(replicas[0].store, third)
    assert await payloads(postgres_url) == 0
    assert await bases(postgres_url) == {}


async def at_once(one: OpenStore, two: OpenStore, url: str, tries: int) -> None:
    """Requests are stored, deleted and followed by others at the same time; each is whole or gone."""
    for number in range(tries):
        client = Client(number + 10)
        requests = [request for request, _ in client.turns(9)][-3:]
        begun = [intent() for _ in range(3)]
        base = await said(one.store, requests[0])
        await asyncio.gather(
            begin(one.store, begun[0], requests[1]),
            delete(two.store, base),
            begin(two.store, begun[1], requests[1]),
            begin(one.store, begun[2], requests[2]),
        )
        for entry, request in zip(begun, [requests[1], requests[1], requests[2]], strict=True):
            assert await two.store.request_of(entry.id) == request
            await one.store.finish(outcome(entry.id), b"{}")
        await two.store.sweep(now())
        dependents = [key for key, its_base in (await bases(url)).items() if its_base == base]
        assert (await one.store.request_of(base) is None) is (not dependents)
        await asyncio.gather(
            *(delete(store, entry.id) for entry in begun for store in (one.store, two.store))
        )
    await one.store.sweep(now())
    assert await payloads(url) == 0
    assert await bases(url) == {}


async def test_two_replicas_store_and_delete_at_once(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    await at_once(*replicas, postgres_url, tries=25)


async def test_one_process_stores_and_deletes_at_once(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        await at_once(opened, opened, sqlite_url, tries=25)


async def test_a_tombstone_and_an_intent_in_one_batch_leave_the_request_whole(sqlite_url: str) -> None:
    one, two, _ = turns()
    async with open_store(sqlite_url) as opened:
        base, begun = await said(opened.store, one), intent()
        other = intent()
        # The first batch is on its way while the others find the base and gather for the second.
        await asyncio.gather(
            opened.store.begin(other, b"{}"),
            begin(opened.store, begun, two),
            delete(opened.store, base),
        )
        await opened.store.sweep(now())
        assert await opened.store.request_of(begun.id) == two


async def test_a_process_that_dies_before_it_stores_the_whole_leaves_nobodys_base(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    one, two, three = turns()
    base = await said(replicas[0].store, one)
    dead = await sent(replicas[0].store, two)
    await delete(replicas[0].store, base)
    following = await said(replicas[1].store, three)
    assert (await bases(postgres_url))[following] is None
    assert (await bases(postgres_url))[dead] == base
