from __future__ import annotations

import asyncio

from service.store.backend import committed
from service.store.deletion import LOCK_HELD, TOMBSTONE
from service.store.records import USAGE_FINAL, now
from service.store.tables import DEFAULT_PROJECT
from tests.support.store import OpenStore, completed, intent, literal, outcome, query

DETAIL = '{"total_tokens":45}'


async def test_content_is_gone_and_usage_stays(opened: OpenStore, store_url: str) -> None:
    begun = intent()
    await opened.store.begin(begun, b"secret request")
    await opened.store.finish(outcome(begun.id, error_message="quotes a secret"), b"secret response")
    await opened.store.delete(begun.id, 1234, DETAIL)
    assert await opened.store.find(DEFAULT_PROJECT, begun.id) is None
    assert await opened.store.find_by_upstream_id(DEFAULT_PROJECT, f"v1_{begun.id.hex()}") is None
    assert await opened.store.request_of(begun.id) is None
    assert await query(store_url, "SELECT count(*) FROM payloads") == [(0,)]
    rows = await query(
        store_url,
        "SELECT deleted_at, status, usage_state, total_tokens, usage_detail, error_message FROM interactions",
    )
    assert rows == [(1234, "completed", USAGE_FINAL, 45, DETAIL, None)]


async def test_events_are_deleted_with_the_interaction(opened: OpenStore, store_url: str) -> None:
    kept, deleted = await completed(opened.store), await completed(opened.store)
    for key in (kept, deleted):
        await query(
            store_url,
            "INSERT INTO events (interaction_id, first_seq, last_seq, codec, size, body) "
            f"SELECT {literal(store_url, key)}, 1, 2, 0, 0, body FROM payloads LIMIT 1",
        )
    await opened.store.delete(deleted, now(), None)
    assert await query(store_url, "SELECT count(*) FROM events") == [(1,)]
    assert await query(store_url, "SELECT count(*) FROM payloads") == [(2,)]


async def test_a_second_delete_changes_nothing(opened: OpenStore, store_url: str) -> None:
    key = await completed(opened.store)
    await opened.store.delete(key, 1, DETAIL)
    await opened.store.delete(key, 2, None)
    assert await query(store_url, "SELECT deleted_at, usage_detail FROM interactions") == [(1, DETAIL)]


async def test_deleting_what_is_not_there_is_no_error(opened: OpenStore, store_url: str) -> None:
    await opened.store.delete(intent().id, now(), None)
    assert await query(store_url, "SELECT count(*) FROM interactions") == [(0,)]


async def test_an_outcome_after_the_delete_brings_usage_but_no_content(
    opened: OpenStore, store_url: str
) -> None:
    begun = intent()
    await opened.store.begin(begun, b"secret request")
    await opened.store.delete(begun.id, now(), None)
    await opened.store.finish(outcome(begun.id, error_message="quotes a secret"), b"secret response")
    assert await opened.store.find(DEFAULT_PROJECT, begun.id) is None
    assert await query(store_url, "SELECT count(*) FROM payloads") == [(0,)]
    rows = await query(store_url, "SELECT status, total_tokens, error_message FROM interactions")
    assert rows == [("completed", 45, None)]


async def test_an_outcome_and_a_delete_at_once_leave_no_content(opened: OpenStore, store_url: str) -> None:
    begun = [intent() for _ in range(20)]
    for entry in begun:
        await opened.store.begin(entry, b"secret request")
    await asyncio.gather(
        *(opened.store.finish(outcome(entry.id), b"secret response") for entry in begun),
        *(opened.store.delete(entry.id, now(), None) for entry in begun),
    )
    assert await query(store_url, "SELECT count(*) FROM payloads") == [(0,)]
    assert await query(store_url, "SELECT count(*), sum(total_tokens) FROM interactions") == [(20, 900)]


async def test_a_hold_that_was_not_seen_keeps_an_interaction(opened: OpenStore) -> None:
    key = await completed(opened.store)
    seen = await opened.store.holds.count()
    hold = await opened.store.holds.place(DEFAULT_PROJECT, key=key)
    await committed(opened.backend, [(LOCK_HELD, [(key,)]), (TOMBSTONE, [(key, now(), None, seen)])])
    assert await opened.store.stands(key)
    assert await opened.store.delete(key, now(), None) == [hold]
    await opened.store.holds.release(hold)
    assert not await opened.store.delete(key, now(), None)
    assert not await opened.store.stands(key)


async def test_what_is_deleted_is_held_no_more(opened: OpenStore) -> None:
    key = await completed(opened.store)
    await opened.store.delete(key, now(), None)
    await opened.store.holds.place(DEFAULT_PROJECT, key=key)
    assert key not in {hold.interaction_id for hold in await opened.store.holds.of_project(DEFAULT_PROJECT)}
