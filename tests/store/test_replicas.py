"""Two processes write the same interaction on PostgreSQL: whoever has the row decides, and the other sees that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from service.store.records import now
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from tests.support.store import OpenStore, intent, open_store, outcome, query, running

Act = Callable[[Store, bytes], Awaitable[None]]


async def complete(store: Store, key: bytes) -> None:
    await store.finish(outcome(key, error_message="quotes a secret"), b"completed")


async def fail(store: Store, key: bytes) -> None:
    await store.finish(outcome(key, status="failed"), b"failed")


async def still_run(store: Store, key: bytes) -> None:
    await store.finish(running(key), b"in_progress")


async def delete(store: Store, key: bytes) -> None:
    await store.delete(key, now(), None)


@pytest.fixture
async def replicas(postgres_url: str) -> AsyncIterator[tuple[OpenStore, OpenStore]]:
    async with open_store(postgres_url) as first, open_store(postgres_url) as second:
        yield first, second


async def sent(opened: OpenStore) -> bytes:
    """An interaction of which nothing is known yet."""
    entry = intent()
    await opened.store.begin(entry, b"secret request")
    return entry.id


async def begun(opened: OpenStore) -> bytes:
    """An interaction that upstream works on, with its state in between."""
    key = await sent(opened)
    await still_run(opened.store, key)
    return key


@asynccontextmanager
async def held(url: str, key: bytes) -> AsyncIterator[None]:
    """Nobody else can write this interaction meanwhile; they wait in the order they came."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            chosen = "SELECT 1 FROM interactions WHERE id = $1 FOR UPDATE"
            await connection.execute(chosen, UUID(bytes=key))
            yield
    finally:
        await connection.close()


async def until_waiting(url: str, number: int) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while await query(url, waiting) != [(number,)]:
        await asyncio.sleep(0.01)


async def in_turn(
    url: str, replicas: tuple[OpenStore, OpenStore], key: bytes, first: Act, second: Act
) -> None:
    """Both act before either has the row; the first gets it first."""
    async with asyncio.TaskGroup() as group, held(url, key):
        for number, act in enumerate((first, second)):
            group.create_task(_do(act, replicas[number].store, key))
            await until_waiting(url, number + 1)


async def _do(act: Act, store: Store, key: bytes) -> None:
    await act(store, key)


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (complete, still_run, "completed"),
        (still_run, complete, "completed"),
        (complete, fail, "completed"),
        (fail, complete, "failed"),
    ],
)
async def test_the_body_is_the_one_of_the_first_terminal_outcome(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str, first: Act, second: Act, status: str
) -> None:
    key = await begun(replicas[0])
    await in_turn(postgres_url, replicas, key, first, second)
    record = await replicas[0].store.find(DEFAULT_PROJECT, key)
    assert record is not None
    assert (record.status, record.response) == (status, status.encode())


@pytest.mark.parametrize(
    ("first", "second"), [(complete, delete), (delete, complete), (still_run, delete), (delete, still_run)]
)
@pytest.mark.parametrize("prepare", [sent, begun])
async def test_no_content_is_left_under_a_tombstone(
    replicas: tuple[OpenStore, OpenStore],
    postgres_url: str,
    prepare: Callable[[OpenStore], Awaitable[bytes]],
    first: Act,
    second: Act,
) -> None:
    await in_turn(postgres_url, replicas, await prepare(replicas[0]), first, second)
    assert await query(postgres_url, "SELECT count(*) FROM payloads") == [(0,)]
    (row,) = await query(
        postgres_url, "SELECT deleted_at IS NULL, error_message, total_tokens FROM interactions"
    )
    assert row == (False, None, 45 if complete in (first, second) else None)


async def test_two_deletes_leave_nothing_and_change_nothing(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    await in_turn(postgres_url, replicas, await begun(replicas[0]), delete, delete)
    assert await query(postgres_url, "SELECT count(*) FROM payloads") == [(0,)]


@pytest.mark.parametrize("other", [still_run, delete])
async def test_whoever_wins_the_outcome_and_its_body_agree(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str, other: Act
) -> None:
    one, two = replicas
    for _ in range(60):
        key = await begun(one)
        await asyncio.gather(complete(one.store, key), other(two.store, key))
        record = await one.store.find(DEFAULT_PROJECT, key)
        if other is delete:
            assert record is None
        else:
            assert record is not None
            assert (record.status, record.response) == ("completed", b"completed")
    bodies = await query(postgres_url, "SELECT count(*) FROM payloads")
    assert bodies == [(0 if other is delete else 120,)]
    assert await query(postgres_url, "SELECT sum(total_tokens) FROM interactions") == [(60 * 45,)]


async def test_many_outcomes_of_both_replicas_at_once_agree_with_their_bodies(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    one, two = replicas
    keys = [await begun(one) for _ in range(60)]
    # In one order: writers that lock the same rows in different orders are told apart by a timer of the server.
    await asyncio.gather(
        *(complete(one.store, key) for key in keys[:40]),
        *(still_run(two.store, key) for key in keys[:20]),
        *(fail(two.store, key) for key in keys[20:]),
    )
    for key in keys:
        record = await two.store.find(DEFAULT_PROJECT, key)
        assert record is not None
        assert record.response == record.status.encode()
        assert record.terminal


async def follow_up(opened: OpenStore, previous: bytes) -> bytes:
    entry = intent(previous_id=previous)
    await opened.store.begin(entry, b"request")
    await complete(opened.store, entry.id)
    return entry.id


async def family(opened: OpenStore) -> tuple[bytes, bytes, bytes]:
    """A deleted root with a deleted follow-up, which two follow-ups of its own still need."""
    root = await begun(opened)
    await complete(opened.store, root)
    parent = await follow_up(opened, root)
    left, right = [await follow_up(opened, parent) for _ in range(2)]
    for key in (root, parent):
        await delete(opened.store, key)
    return parent, left, right


async def test_the_last_two_follow_ups_deleted_at_once_leave_nothing(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    one, two = replicas
    _, left, right = await family(one)
    # Their tombstones are there already, so that what waits is the erasing of the first.
    tombstones = "UPDATE interactions SET deleted_at = 1 WHERE deleted_at IS NULL"
    await query(postgres_url, tombstones)
    async with asyncio.TaskGroup() as group, held(postgres_url, left):
        group.create_task(_do(delete, one.store, left))
        await until_waiting(postgres_url, 1)
        await delete(two.store, right)
        assert await query(postgres_url, "SELECT count(*) FROM payloads") == [(6,)]
    assert await query(postgres_url, "SELECT count(*) FROM payloads") == [(0,)]
    assert await query(postgres_url, "SELECT count(*) FROM interactions WHERE erased_at IS NULL") == [(0,)]


async def test_whoever_deletes_first_the_family_is_erased(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    one, two = replicas
    for _ in range(30):
        _, left, right = await family(one)
        await asyncio.gather(delete(one.store, left), delete(two.store, right))
        assert await query(postgres_url, "SELECT count(*) FROM payloads") == [(0,)]
    assert await query(postgres_url, "SELECT count(*) FROM interactions WHERE erased_at IS NULL") == [(0,)]


async def test_replicas_may_sweep_and_delete_at_once(
    replicas: tuple[OpenStore, OpenStore], postgres_url: str
) -> None:
    one, two = replicas
    families = [await family(one) for _ in range(10)]
    await query(postgres_url, "UPDATE interactions SET deleted_at = 1 WHERE deleted_at IS NULL")
    await asyncio.gather(
        one.store.sweep(now()),
        two.store.sweep(now()),
        *(delete(one.store, left) for _, left, _ in families),
        *(delete(two.store, right) for _, _, right in families),
    )
    assert await query(postgres_url, "SELECT count(*) FROM payloads") == [(0,)]
    assert await query(postgres_url, "SELECT count(*) FROM interactions WHERE erased_at IS NULL") == [(0,)]
