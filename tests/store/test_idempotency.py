"""Idempotency keys in the store: of all that claim one, one interaction is written and the others leave nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text

from service.errors import ServiceUnavailable
from service.store import idempotency, migrate, statements
from service.store.backend import Batch, committed
from service.store.deletion import STANDS
from service.store.engine import open_engine
from service.store.idempotency import KeyClaim, KeyTaken
from service.store.records import Intent, now
from service.store.statement import Query
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.store.writer import NotQueued
from service.wire import ids
from tests.support.store import OpenStore, completed, intent, literal, open_sqlite, open_store, outcome, query

HOUR = 3_600_000_000
REQUEST = b'{"input":"hello"}'
#: Long enough for its beginning to be shared with later requests.
LISTED = b'{"input":[%b]}' % b",".join(
    b'{"type":"text","text":"number %d of a long list of words"}' % number for number in range(200)
)


@pytest.fixture
def store_url(store_url: str) -> str:
    """A migrated database of each kind, without rows."""
    asyncio.run(query(store_url, "DELETE FROM idempotency_keys"))
    return store_url


def claim(
    key: str = "key", *, fingerprint: bytes = b"f" * 32, at: int | None = None, kept: int = HOUR
) -> KeyClaim:
    moment = now() if at is None else at
    return KeyClaim(key, fingerprint, moment, moment + kept)


async def wins(
    store: Store, begun: Intent, wish: KeyClaim, request: bytes = REQUEST, *, listed: bool = False
) -> bool:
    try:
        await store.begin(begun, request, listed=listed, claim=wish)
    except KeyTaken:
        return False
    return True


async def owner(store: Store, key: str = "key", project_id: bytes = DEFAULT_PROJECT) -> bytes | None:
    bound = await store.keys.find(project_id, key)
    return None if bound is None else bound.interaction_id


async def count(url: str, table: str) -> int:
    ((found,),) = await query(url, f"SELECT count(*) FROM {table}")
    return int(found)


async def test_a_key_belongs_to_the_interaction_that_is_written_with_it(opened: OpenStore) -> None:
    begun = intent()
    assert await wins(opened.store, begun, claim(fingerprint=b"x" * 32))
    bound = await opened.store.keys.find(DEFAULT_PROJECT, "key")
    assert bound is not None
    assert (bound.interaction_id, bound.fingerprint) == (begun.id, b"x" * 32)
    assert await opened.store.request_of(begun.id) == REQUEST
    await opened.store.finish(outcome(begun.id), b"answer")
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert record.response == b"answer"


@pytest.mark.parametrize("request_bytes", [REQUEST, LISTED], ids=["short", "listed"])
async def test_of_many_claims_at_once_one_is_written_and_the_others_leave_nothing(
    opened: OpenStore, store_url: str, request_bytes: bytes
) -> None:
    listed = request_bytes is LISTED
    intents = [intent() for _ in range(50)]
    plain = [intent() for _ in range(10)]
    claims = [wins(opened.store, begun, claim(), request_bytes, listed=listed) for begun in intents]
    others = [opened.store.begin(begun, REQUEST) for begun in plain]
    won = await asyncio.gather(*claims)
    await asyncio.gather(*others)
    assert sum(won) == 1
    assert await owner(opened.store) == intents[won.index(True)].id
    assert await count(store_url, "interactions") == 11
    assert await count(store_url, "payloads") == 11
    assert await count(store_url, "inputs") == (1 if listed else 0)
    assert opened.writer.statistics.retries == 0
    assert opened.writer.statistics.refused == 0


async def test_many_keys_are_claimed_in_one_transaction(opened: OpenStore, store_url: str) -> None:
    intents = [intent() for _ in range(200)]
    won = await asyncio.gather(
        *(wins(opened.store, begun, claim(f"key {number % 100}")) for number, begun in enumerate(intents))
    )
    assert sum(won) == 100
    assert await count(store_url, "interactions") == 100
    assert opened.writer.statistics.retries == 0


async def test_a_later_claim_is_in_vain(opened: OpenStore, store_url: str) -> None:
    first = intent()
    assert await wins(opened.store, first, claim())
    await opened.store.finish(outcome(first.id), b"answer")
    assert not await wins(opened.store, intent(), claim())
    assert await owner(opened.store) == first.id
    assert await count(store_url, "interactions") == 1


async def test_processes_race_for_a_key(own_postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        stores = [(await stack.enter_async_context(open_store(own_postgres_url))).store for _ in range(2)]
        for number in range(20):
            names = [f"{number} {name}" for name in ("a", "b", "c")]
            # Each process asks for the same keys in another order.
            asked = [
                (store, name)
                for store, order in zip(stores, (names, names[::-1]), strict=True)
                for name in order
            ]
            won = await asyncio.gather(*(wins(store, intent(), claim(name)) for store, name in asked))
            assert sum(won) == len(names)
        assert await count(own_postgres_url, "interactions") == 60
        assert await count(own_postgres_url, "payloads") == 60


async def test_a_key_is_a_projects_own(opened: OpenStore) -> None:
    other = ids.mint()
    mine, theirs = intent(), intent(project_id=other)
    assert await wins(opened.store, mine, claim())
    assert await wins(opened.store, theirs, claim())
    assert await owner(opened.store) == mine.id
    assert await owner(opened.store, project_id=other) == theirs.id
    assert await opened.store.recall(other, mine.id) is None


async def test_a_key_past_its_time_makes_a_new_interaction(opened: OpenStore) -> None:
    first, second = intent(), intent()
    assert await wins(opened.store, first, claim(at=now() - 2 * HOUR))
    assert await owner(opened.store) is None
    assert await wins(opened.store, second, claim(fingerprint=b"y" * 32))
    assert await owner(opened.store) == second.id
    assert not await wins(opened.store, intent(), claim())


async def test_a_sweep_forgets_keys_past_their_time_and_no_others(opened: OpenStore, store_url: str) -> None:
    old = now() - 2 * HOUR
    many = idempotency.SWEPT_AT_ONCE + 5
    await asyncio.gather(
        *(wins(opened.store, intent(), claim(f"old {number}", at=old)) for number in range(many))
    )
    fresh = intent()
    assert await wins(opened.store, fresh, claim("fresh"))
    await opened.store.sweep(now())
    assert await count(store_url, "idempotency_keys") == 1
    assert await owner(opened.store, "fresh") == fresh.id
    assert await count(store_url, "interactions") == many + 1


async def test_a_failure_can_free_the_key_with_its_outcome(opened: OpenStore) -> None:
    first, second = intent(), intent()
    assert await wins(opened.store, first, claim())
    failed = outcome(first.id, status="failed", http_status=429, error_code="busy", error_message="no")
    await opened.store.finish(failed, None, free_key=True)
    assert await owner(opened.store) is None
    assert await wins(opened.store, second, claim(fingerprint=b"y" * 32))
    # The first interaction has no hold on the key any more.
    await opened.store.keys.release(first.id)
    assert await owner(opened.store) == second.id


async def test_a_claim_that_is_written_after_its_caller_gave_up_holds_no_key(
    opened: OpenStore, store_url: str
) -> None:
    lock = (
        "BEGIN IMMEDIATE" if store_url.startswith("sqlite") else "LOCK TABLE interactions IN EXCLUSIVE MODE"
    )
    async with asyncio.timeout(30):
        engine = open_engine(store_url)
        async with engine.connect() as connection:
            await connection.execute(text(lock))
            with pytest.raises(ServiceUnavailable):
                await opened.store.begin(intent(), REQUEST, claim=claim())
            await connection.rollback()
        await engine.dispose()
        await completed(opened.store)
    assert await owner(opened.store) is None
    assert await wins(opened.store, intent(), claim())


async def test_a_claim_that_is_shed_takes_no_key(store_url: str) -> None:
    async with open_store(store_url, limit=3) as opened:
        claims = [wins(opened.store, intent(), claim(f"key {number}")) for number in range(10)]
        outcomes = await asyncio.gather(*claims, return_exceptions=True)
        shed = [isinstance(outcome, NotQueued) for outcome in outcomes]
        assert 0 < sum(shed) < 10
        held = [await owner(opened.store, f"key {number}") is not None for number in range(10)]
        assert held == [not one for one in shed]
        assert opened.writer.statistics.entries == 10 - sum(shed)


async def test_a_downgrade_forgets_the_keys_and_nothing_else(database_url: str) -> None:
    await migrate.upgrade(database_url)
    for _ in range(2):
        async with open_store(database_url) as opened:
            begun = intent()
            assert await wins(opened.store, begun, claim())
            assert await owner(opened.store) == begun.id
        await migrate.downgrade(database_url, "0006")
        await migrate.upgrade(database_url)
    assert await count(database_url, "interactions") == 2
    assert await count(database_url, "idempotency_keys") == 0


async def test_keys_are_found_without_looking_at_others(own_postgres_url: str) -> None:
    other = f"'{DEFAULT_PROJECT.hex()}', 'other ' || number, gen_random_uuid(), '', 1, {2**62}"
    await query(
        own_postgres_url,
        f"INSERT INTO idempotency_keys SELECT {other} FROM generate_series(1, 20000) number",
    )
    await query(own_postgres_url, "ANALYZE")
    looks = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'idempotency_keys'"
    ((before,),) = await query(own_postgres_url, looks)
    async with open_store(own_postgres_url) as opened:
        begun = [intent() for _ in range(50)]
        await asyncio.gather(
            *(wins(opened.store, one, claim(f"key {number}")) for number, one in enumerate(begun))
        )
        await asyncio.gather(*(opened.store.keys.release(one.id) for one in begun))
        assert await owner(opened.store, "key 7") is None
        assert await owner(opened.store, "other 7") is not None
    # A connection counts what it has read when it ends.
    ((after,),) = await query(own_postgres_url, looks)
    assert after - before < 20 * len(begun)


@pytest.mark.parametrize("look", [idempotency.FIND_KEY, STANDS], ids=lambda look: look.name)
async def test_an_intent_that_cannot_be_looked_after_holds_no_key(sqlite_url: str, look: Query) -> None:
    longer = LISTED[:-2] + b',{"type":"text","text":"and one more"}]}'
    async with open_sqlite(sqlite_url) as (opened, backend):
        base = intent()
        await opened.store.begin(base, LISTED, listed=True)
        await opened.store.finish(outcome(base.id), b"answer")
        begun = intent()
        backend.unreadable = look
        with pytest.raises(ServiceUnavailable):
            await opened.store.begin(begun, longer, listed=True, claim=claim())
        backend.unreadable = None
        assert await owner(opened.store) is None
        assert await opened.store.recall(DEFAULT_PROJECT, begun.id) is not None
        assert await wins(opened.store, intent(), claim(), longer, listed=True)


async def test_a_batch_that_is_sent_again_changes_nothing(opened: OpenStore, store_url: str) -> None:
    begun = intent()
    batch: Batch = [
        (idempotency.CLAIM_KEY, [claim().row(begun.id, DEFAULT_PROJECT)]),
        (statements.INSERT_CLAIMED_INTENT, [begun.row(len(REQUEST))]),
        (statements.INSERT_CLAIMED_REQUEST, [(begun.id, REQUEST)]),
    ]
    for _ in range(2):
        await committed(opened.backend, batch)
    assert await owner(opened.store) == begun.id
    assert await opened.store.request_of(begun.id) == REQUEST
    assert await count(store_url, "interactions") == 1


async def test_what_was_not_to_be_stored_is_recalled_and_never_found(
    opened: OpenStore, store_url: str
) -> None:
    key = await completed(opened.store, store=False, response=b"answer")
    assert await opened.store.find(DEFAULT_PROJECT, key) is None
    record = await opened.store.recall(DEFAULT_PROJECT, key)
    assert record is not None
    assert record.response == b"answer"
    await query(store_url, f"UPDATE interactions SET deleted_at = 1 WHERE id = {literal(store_url, key)}")
    assert await opened.store.recall(DEFAULT_PROJECT, key) is None
