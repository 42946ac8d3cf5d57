"""Usage is written once: with the outcome, or later by whoever asks upstream for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.errors import Superseded
from service.store.records import USAGE_FINAL, USAGE_MISSING, USAGE_PARTIAL, Usage, now
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.support.store import ANYTHING, USAGE, OpenStore, intent, outcome, query

SECOND = 1_000_000


async def owing(store: Store, **changes: Any) -> bytes:
    """An interaction whose usage upstream has not told."""
    entry = intent()
    await store.begin(entry, b"{}")
    owed = outcome(entry.id, usage=Usage(USAGE_MISSING), updated_at=now() - 60 * SECOND)
    await store.finish(owed._replace(**changes), b'{"status":"completed"}')
    return entry.id


async def figures(url: str) -> list[tuple[object, ...]]:
    return await query(
        url, "SELECT usage_state, input_tokens, total_tokens, response_bytes FROM interactions"
    )


async def test_missing_usage_is_asked_for_again_and_again_with_growing_pauses(opened: OpenStore) -> None:
    held = opened.store.held
    key = await owing(opened.store)
    assert await held.usage_due(ANYTHING, 0, 10) == [(key, 1)]
    assert await held.usage_due(ANYTHING, 0, 10) == [(key, 2)]
    assert await held.usage_due(ANYTHING, 60 * SECOND, 10) == [(key, 3)]
    # Whoever took it has that long to settle it.
    assert await held.usage_due(ANYTHING, 0, 10) == []
    await held.forget_usage(key)


async def test_usage_is_not_asked_for_before_its_time(opened: OpenStore) -> None:
    await owing(opened.store, updated_at=now())
    assert await opened.store.held.usage_due(ANYTHING, 0, 10) == []


@pytest.mark.parametrize(
    "changes",
    [{"usage": USAGE}, {"upstream_id": None}, {"upstream_stored": False}, {"usage": Usage(USAGE_PARTIAL)}],
)
async def test_nothing_is_asked_for_where_there_is_nothing_to_ask(
    opened: OpenStore, changes: dict[str, Any]
) -> None:
    await owing(opened.store, **changes)
    assert await opened.store.held.usage_due(ANYTHING, 0, 10) == []


async def test_usage_becomes_final_once(opened: OpenStore, store_url: str) -> None:
    store = opened.store
    key = await owing(store)
    await store.held.settle_usage(key, USAGE, b'{"usage":{}}')
    settled = await figures(store_url)
    assert settled == [(USAGE_FINAL, 11, 45, len(b'{"usage":{}}'))]
    record = await store.find(DEFAULT_PROJECT, key)
    assert record is not None
    assert (record.usage_state, record.response) == (USAGE_FINAL, b'{"usage":{}}')
    assert await store.held.usage_due(ANYTHING, 0, 10) == []
    other = USAGE._replace(total_tokens=99)
    await asyncio.gather(*(store.held.settle_usage(key, other, b"other") for _ in range(4)))
    assert await figures(store_url) == settled
    assert await query(store_url, "SELECT count(*) FROM leases") == [(0,)]


async def test_usage_that_came_with_the_outcome_is_never_changed(opened: OpenStore, store_url: str) -> None:
    key = await owing(opened.store, usage=USAGE)
    before = await figures(store_url)
    await opened.store.held.settle_usage(key, USAGE._replace(total_tokens=99), b"other")
    assert await figures(store_url) == before


async def test_a_deleted_interaction_keeps_its_figures_and_nothing_else(
    opened: OpenStore, store_url: str
) -> None:
    store = opened.store
    key = await owing(store)
    await store.delete(key, now(), None)
    await store.held.settle_usage(key, USAGE, b"secret")
    assert [row[:3] for row in await figures(store_url)] == [(USAGE_FINAL, 11, 45)]
    assert await query(store_url, "SELECT count(*) FROM payloads") == [(0,)]


async def test_who_has_lost_an_interaction_notes_nothing_of_it(opened: OpenStore, store_url: str) -> None:
    entry = intent()
    await opened.store.begin(entry, b"{}")
    lost = outcome(entry.id, usage=Usage(USAGE_MISSING), owner_id=ids.mint())
    with pytest.raises(Superseded):
        await opened.store.finish(lost, b"{}")
    assert await query(store_url, "SELECT count(*) FROM leases") == [(0,)]
