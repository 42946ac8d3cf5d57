"""Webhooks in the tables: due with the outcome, claimed by one, reported by whoever holds the claim."""

from __future__ import annotations

import asyncio

from service.store.kept_webhooks import Delivery
from service.store.records import now
from service.store.store import Store
from service.wire.webhooks import WebhookConfig
from tests.support.store import OpenStore, intent, open_store, outcome, query, running

CONFIG = WebhookConfig(("https://a.example/", "https://b.example/"), {"job": 1})
FAR = 10**18


async def begun(store: Store) -> bytes:
    made = intent(background=True)
    await store.begin(made, b"{}", webhooks=CONFIG)
    return made.id


async def ended(store: Store) -> bytes:
    key = await begun(store)
    await store.finish(outcome(key), b"{}")
    return key


async def clear(url: str) -> None:
    await query(url, "DELETE FROM webhooks")


async def test_nothing_is_due_before_there_is_an_outcome(opened: OpenStore, store_url: str) -> None:
    await clear(store_url)
    key = await begun(opened.store)
    webhooks = opened.store.webhooks
    assert await webhooks.config(key) == CONFIG.shown()
    await opened.store.finish(running(key), b"{}")
    assert await webhooks.next_due() is None
    assert await webhooks.claim(FAR, 10) == []
    end = outcome(key)
    await opened.store.finish(end, b"{}")
    assert await webhooks.next_due() == end.completed_at
    claimed = await webhooks.claim(FAR, 10)
    assert {(one.uri, one.tries) for one in claimed} == {(uri, 0) for uri in CONFIG.uris}
    assert all(one.user_metadata == {"job": 1} for one in claimed)


async def test_a_second_outcome_makes_nothing_due_again(opened: OpenStore, store_url: str) -> None:
    await clear(store_url)
    key = await ended(opened.store)
    webhooks = opened.store.webhooks
    for delivery in await webhooks.claim(FAR, 10):
        await webhooks.settle(delivery, 204, None)
    await opened.store.finish(outcome(key, status="cancelled"), b"{}")
    assert await webhooks.next_due() is None


async def test_each_delivery_is_claimed_by_one(opened: OpenStore, store_url: str) -> None:
    await clear(store_url)
    for _ in range(20):
        await ended(opened.store)
    async with open_store(store_url) as other:
        stores = (opened.store, other.store) * 4
        claimed: list[Delivery] = []
        while found := await asyncio.gather(*(store.webhooks.claim(FAR, 3) for store in stores)):
            claimed += [delivery for some in found for delivery in some]
            if not any(found):
                break
    assert len(claimed) == 40
    assert len({(delivery.interaction_id, delivery.place) for delivery in claimed}) == 40


async def test_a_claim_that_has_ended_is_anybodys_and_its_holder_changes_nothing(
    opened: OpenStore, store_url: str
) -> None:
    await clear(store_url)
    await ended(opened.store)
    webhooks = opened.store.webhooks
    stale = await webhooks.claim(now(), 10)
    await asyncio.sleep(0.001)
    current = await webhooks.claim(FAR, 10)
    assert len(stale) == len(current) == 2
    for delivery in stale:
        await webhooks.settle(delivery, 204, None)
        await webhooks.hand_back(delivery, 0)
    assert await webhooks.next_due() == FAR
    for delivery in current:
        await webhooks.put_off(delivery, 7, 500, "answered 500")
    rows = await query(store_url, "SELECT due_at, tries, settled_at, http_status, error FROM webhooks")
    assert rows == [(7, 1, None, 500, "answered 500")] * 2


async def test_a_refused_outcome_and_a_delete_leave_nobody_to_tell(opened: OpenStore, store_url: str) -> None:
    await clear(store_url)
    refused = await begun(opened.store)
    await opened.store.finish(outcome(refused, status="failed"), None, refused=True)
    deleted = await begun(opened.store)
    await opened.store.delete(deleted, now(), None)
    await opened.store.finish(outcome(deleted), b"{}")
    told = await ended(opened.store)
    await opened.store.delete(told, now(), None)
    assert await query(store_url, "SELECT count(*) FROM webhooks") == [(0,)]
    assert await opened.store.webhooks.ended(told) is None


async def test_a_late_outcome_and_a_delete_at_the_same_moment_leave_nothing(
    opened: OpenStore, store_url: str
) -> None:
    await clear(store_url)
    async with open_store(store_url) as other:
        for _ in range(10):
            key = await begun(opened.store)
            await asyncio.gather(
                opened.store.finish(outcome(key), b"{}"), other.store.delete(key, now(), None)
            )
    assert await query(store_url, "SELECT count(*) FROM webhooks") == [(0,)]
