"""Deleted interactions whose content something still needs: kept, hidden, and erased with the last that needs it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.store.backend import committed
from service.store.deletion import CONTENT, ERASABLE, ERASE, ERASED_AT_ONCE
from service.store.kept_media import Known
from service.store.records import now
from service.store.statements import FINISH, UPSERT_RESPONSE
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT, NOBODY
from service.wire import ids
from tests.support.store import (
    OpenStore,
    completed,
    intent,
    literal,
    open_sqlite,
    outcome,
    query,
    running,
)

ERASED = "SELECT id FROM interactions WHERE erased_at IS NOT NULL"


async def chain_of(store: Store, length: int, root: bytes | None = None) -> list[bytes]:
    """A chain of so many completed interactions, below the root if one is given."""
    keys = [ids.mint() for _ in range(length)]
    previous = [root, *keys]
    begun = [intent(key, previous_id=parent) for key, parent in zip(keys, previous, strict=False)]
    await asyncio.gather(*(store.begin(entry, b"request") for entry in begun))
    await asyncio.gather(*(store.finish(outcome(key), b"response") for key in keys))
    return keys


async def delete(store: Store, *keys: bytes) -> None:
    """Delete these, one after the other."""
    for key in keys:
        await store.delete(key, now(), None)


async def erased(url: str) -> set[bytes]:
    """What is marked as erased, which must be exactly what has no content any more."""
    marked = {_bytes(key) for (key,) in await query(url, ERASED)}
    full = {_bytes(key) for (key,) in await query(url, "SELECT DISTINCT interaction_id FROM payloads")}
    known = {_bytes(key) for (key,) in await query(url, "SELECT id FROM interactions")}
    assert known - full == marked
    return marked


def _bytes(key: Any) -> bytes:
    return key if isinstance(key, bytes) else bytes(key.bytes)


async def base_on(url: str, key: bytes, base: bytes | None) -> None:
    """Let the request of an interaction be stored without what another one has."""
    value = "NULL" if base is None else literal(url, base)
    blob = "x'00'" if url.startswith("sqlite") else "'\\x00'"
    await query(
        url,
        "INSERT INTO inputs (interaction_id, digest, start, size, base_id) "
        f"VALUES ({literal(url, key)}, {blob}, 0, 1, {value})",
    )


async def tombstone(url: str, *keys: bytes) -> None:
    """Leave what a process leaves that dies in the middle of a delete."""
    chosen = ", ".join(literal(url, key) for key in keys)
    await query(url, f"UPDATE interactions SET deleted_at = 7 WHERE id IN ({chosen})")


async def test_a_follow_up_keeps_the_content_of_its_deleted_parent(opened: OpenStore, store_url: str) -> None:
    parent, child = await chain_of(opened.store, 2)
    await delete(opened.store, parent)
    assert await opened.store.find(DEFAULT_PROJECT, parent) is None
    assert await opened.store.find_by_upstream_id(DEFAULT_PROJECT, f"v1_{parent.hex()}") is None
    links = await opened.store.chain(DEFAULT_PROJECT, child)
    assert [(link.id, link.deleted, link.request, link.response) for link in links] == [
        (parent, True, b"request", b"response"),
        (child, False, b"request", b"response"),
    ]
    assert await erased(store_url) == set()


async def test_the_last_follow_up_takes_the_parent_with_it(opened: OpenStore, store_url: str) -> None:
    parent, left = await chain_of(opened.store, 2)
    (right,) = await chain_of(opened.store, 1, parent)
    await delete(opened.store, parent, left)
    assert await erased(store_url) == {left}
    await delete(opened.store, right)
    assert await erased(store_url) == {parent, left, right}
    assert await query(store_url, "SELECT count(*) FROM payloads") == [(0,)]


async def test_the_time_of_the_erasing_is_that_of_the_delete_which_caused_it(
    opened: OpenStore, store_url: str
) -> None:
    parent, child = await chain_of(opened.store, 2)
    await opened.store.delete(parent, 1, None)
    await opened.store.delete(child, 2, None)
    rows = await query(store_url, "SELECT deleted_at, erased_at FROM interactions ORDER BY id")
    assert rows == [(1, 2), (2, 2)]


async def test_what_is_not_deleted_stays_whole(opened: OpenStore, store_url: str) -> None:
    root, middle, tip = await chain_of(opened.store, 3)
    await delete(opened.store, middle)
    assert await erased(store_url) == set()
    await delete(opened.store, tip)
    assert await erased(store_url) == {middle, tip}
    assert await opened.store.find(DEFAULT_PROJECT, root) is not None


async def test_deleting_from_the_tip_upwards_erases_at_once(opened: OpenStore, store_url: str) -> None:
    keys = await chain_of(opened.store, 4)
    for number in range(1, 5):
        await delete(opened.store, keys[-number])
        assert await erased(store_url) == set(keys[-number:])


async def test_a_live_branch_keeps_its_trunk_and_nothing_else(opened: OpenStore, store_url: str) -> None:
    root, fork, *left = await chain_of(opened.store, 4)
    right = await chain_of(opened.store, 2, fork)
    await delete(opened.store, root, fork, *left, right[0])
    assert await erased(store_url) == set(left)
    assert all(link.response for link in await opened.store.chain(DEFAULT_PROJECT, right[1]))
    await delete(opened.store, right[1])
    assert await erased(store_url) == {root, fork, *left, *right}


async def test_a_long_chain_deleted_from_the_root_is_erased_with_its_tip(
    opened: OpenStore, store_url: str
) -> None:
    *kept, tip = await chain_of(opened.store, ERASED_AT_ONCE + 200)
    for start in range(0, len(kept), 100):
        await asyncio.gather(*(opened.store.delete(key, now(), None) for key in kept[start : start + 100]))
    assert await erased(store_url) == set()
    before = opened.writer.statistics.batches
    await delete(opened.store, tip)
    assert await erased(store_url) == {*kept, tip}
    # The tombstone, and two times as many as are erased at once.
    assert opened.writer.statistics.batches - before == 4


async def test_what_is_erased_already_makes_no_delete_slower(sqlite_url: str) -> None:
    async with open_sqlite(sqlite_url) as (opened, backend):
        root = await completed(opened.store)
        children = [await completed(opened.store, previous_id=root) for _ in range(1_000)]
        await delete(opened.store, root)
        steps = []
        for start in range(0, 1_000, 100):
            before = backend.steps
            await delete(opened.store, *children[start : start + 100])
            steps.append(backend.steps - before)
        assert await erased(sqlite_url) == {root, *children}
    assert steps[-1] < 2 * steps[0]


@pytest.mark.parametrize("status", ["failed", "cancelled", "budget_exceeded"])
async def test_a_follow_up_that_nothing_can_follow_keeps_nothing(
    opened: OpenStore, store_url: str, status: str
) -> None:
    parent = await completed(opened.store)
    child = intent(previous_id=parent)
    await opened.store.begin(child, b"request")
    await opened.store.finish(outcome(child.id, status=status), b"response")
    await delete(opened.store, parent)
    assert await erased(store_url) == {parent}


async def test_a_failure_that_was_continued_keeps_its_parent(opened: OpenStore, store_url: str) -> None:
    parent = await completed(opened.store)
    cut = intent(previous_id=parent)
    await opened.store.begin(cut, b"request")
    await opened.store.finish(outcome(cut.id, status="failed"), b"response")
    (hop,) = await chain_of(opened.store, 1, cut.id)
    await delete(opened.store, parent)
    assert await erased(store_url) == set()
    await delete(opened.store, hop)
    assert await erased(store_url) == {hop}
    await opened.store.sweep(now())
    assert await erased(store_url) == {hop, parent}


async def test_a_follow_up_that_is_not_stored_keeps_nothing(opened: OpenStore, store_url: str) -> None:
    parent = await completed(opened.store)
    await completed(opened.store, previous_id=parent, store=False)
    await delete(opened.store, parent)
    assert await erased(store_url) == {parent}


async def test_a_follow_up_that_runs_keeps_its_parent_until_it_has_failed(
    opened: OpenStore, store_url: str
) -> None:
    parent = await completed(opened.store)
    child = intent(previous_id=parent)
    await opened.store.begin(child, b"request")
    await delete(opened.store, parent)
    assert await erased(store_url) == set()
    await opened.store.finish(outcome(child.id, status="failed"), b"response")
    await opened.store.sweep(now())
    assert await erased(store_url) == {parent}


async def test_a_late_outcome_of_what_is_kept_brings_no_content(opened: OpenStore, store_url: str) -> None:
    parent = intent()
    await opened.store.begin(parent, b"request")
    await opened.store.finish(running(parent.id), b"so far")
    await chain_of(opened.store, 1, parent.id)
    await delete(opened.store, parent.id)
    await opened.store.finish(outcome(parent.id), b"late")
    (link, _) = await opened.store.chain(DEFAULT_PROJECT, await _only_child(store_url))
    assert (link.status, link.request, link.response) == ("completed", b"request", b"so far")


async def _only_child(url: str) -> bytes:
    ((key,),) = await query(url, "SELECT id FROM interactions WHERE previous_id IS NOT NULL")
    return _bytes(key)


async def test_an_outcome_in_the_batch_that_erases_is_recorded(opened: OpenStore, store_url: str) -> None:
    begun = intent()
    await opened.store.begin(begun, b"request")
    await tombstone(store_url, begun.id)
    key = (begun.id,)
    await committed(
        opened.backend,
        [
            (UPSERT_RESPONSE, [(begun.id, b"late", NOBODY)]),
            (FINISH, [outcome(begun.id).row(4)]),
            (ERASE, [(begun.id, 9)]),
            *((statement, [key]) for statement in CONTENT),
        ],
    )
    assert await erased(store_url) == {begun.id}
    assert await query(store_url, "SELECT total_tokens FROM interactions") == [(45,)]


async def test_what_another_request_is_stored_without_is_kept(opened: OpenStore, store_url: str) -> None:
    first, second, third = [await completed(opened.store) for _ in range(3)]
    await base_on(store_url, first, None)
    await base_on(store_url, second, first)
    await base_on(store_url, third, second)
    await delete(opened.store, first, second)
    assert await erased(store_url) == set()
    assert await query(store_url, "SELECT count(*) FROM inputs") == [(3,)]
    await delete(opened.store, third)
    assert await erased(store_url) == {first, second, third}
    assert await query(store_url, "SELECT count(*) FROM inputs") == [(0,)]


async def test_a_parent_that_is_the_base_as_well_is_erased_once(opened: OpenStore, store_url: str) -> None:
    keys = await chain_of(opened.store, 30)
    for base, key in zip([None, *keys], keys, strict=False):
        await base_on(store_url, key, base)
    await delete(opened.store, *keys)
    assert await erased(store_url) == set(keys)


async def test_what_is_needed_in_two_ways_goes_when_both_have_ended(
    opened: OpenStore, store_url: str
) -> None:
    base = await completed(opened.store)
    parent, child = await chain_of(opened.store, 2)
    await base_on(store_url, parent, base)
    await base_on(store_url, child, base)
    await delete(opened.store, base, parent)
    assert await erased(store_url) == set()
    await delete(opened.store, child)
    assert await erased(store_url) == {base, parent, child}


async def test_a_sweep_ends_what_a_crash_has_cut_short(opened: OpenStore, store_url: str) -> None:
    alone = await completed(opened.store)
    chain = await chain_of(opened.store, 5)
    parent, live = await chain_of(opened.store, 2)
    await tombstone(store_url, alone, *chain, parent)
    await opened.store.sweep(9)
    assert await erased(store_url) == {alone, *chain}
    assert await opened.store.find(DEFAULT_PROJECT, live) is not None
    assert await query(store_url, "SELECT count(*) FROM interactions WHERE erased_at = 9") == [(6,)]
    await opened.store.sweep(10)
    assert await query(store_url, "SELECT count(*) FROM interactions WHERE erased_at = 9") == [(6,)]


async def test_a_sweep_looks_behind_many_that_are_needed(opened: OpenStore, store_url: str) -> None:
    *kept, tip = await chain_of(opened.store, ERASED_AT_ONCE + 100)
    alone = await completed(opened.store)
    await tombstone(store_url, *kept, alone)
    await opened.store.sweep(now())
    assert await erased(store_url) == {alone}
    assert len(await opened.store.chain(DEFAULT_PROJECT, tip)) == len(kept) + 1


async def test_a_delete_that_cannot_erase_hides_and_is_swept(sqlite_url: str) -> None:
    async with open_sqlite(sqlite_url) as (opened, backend):
        key = await completed(opened.store)
        backend.unreadable = ERASABLE
        await delete(opened.store, key)
        assert await opened.store.find(DEFAULT_PROJECT, key) is None
        assert await erased(sqlite_url) == set()
        backend.unreadable = None
        await opened.store.sweep(now())
        assert await erased(sqlite_url) == {key}


async def test_media_are_erased_with_the_last_interaction_that_names_them(
    opened: OpenStore, store_url: str
) -> None:
    parent, child = await chain_of(opened.store, 2)
    for key, uri in ((parent, b"a" * 16), (child, b"b" * 16), (parent, b"b" * 16)):
        await opened.store.media.keep(key, uri, Known(uri * 2, "image/png"), b"bytes")
    await delete(opened.store, parent)
    assert await query(store_url, "SELECT count(*) FROM media_contents") == [(2,)]
    await delete(opened.store, child)
    assert await query(store_url, "SELECT count(*) FROM media") == [(0,)]
    assert await query(store_url, "SELECT count(*) FROM media_contents") == [(0,)]
