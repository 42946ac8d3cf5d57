"""Who holds what: claims, fences and the end of a process, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from sqlalchemy import text

from service.errors import StoreError, Superseded
from service.store.bringing_in import LIVE_ON, LIVES, PERIODS, Kind, holder_of
from service.store.engine import open_engine
from service.store.kept_events import EventBatch
from service.store.records import now
from service.store.store import Store
from service.store.tables import NOBODY
from service.wire import ids
from tests.support.gateway import eventually
from tests.support.store import ANYTHING, OpenStore, intent, literal, open_store, outcome, query, running

MINUTE = 60_000_000


async def process(store: Store, until: int = 0) -> bytes:
    """A process, alive for so long from now on."""
    me = ids.mint()
    await store.held.enter(me, now() + until)
    return me


async def begun(store: Store, owner: bytes) -> bytes:
    entry = intent(owner_id=owner, background=True)
    await store.begin(entry, b"{}")
    await store.finish(running(entry.id, owner_id=owner), b"{}")
    return entry.id


async def claimed(store: Store, me: bytes, most: int = 100, since: int | None = None) -> set[bytes]:
    silent_since = now() if since is None else since
    return {claim.id for claim in await store.held.claim(me, ANYTHING, silent_since, most)}


async def test_only_what_the_dead_hold_is_claimed(opened: OpenStore) -> None:
    store = opened.store
    me, alive, dead = await process(store, MINUTE), await process(store, MINUTE), await process(store)
    await begun(store, alive)
    mine = await begun(store, me)
    left, ended, nobodys = await begun(store, dead), await begun(store, dead), await begun(store, NOBODY)
    await store.finish(outcome(ended, owner_id=dead), b"{}")
    assert await claimed(store, me) == {left, nobodys}
    assert await claimed(store, me) == set()
    assert await store.held.held(me) == {mine, left, nobodys}


async def test_what_was_handed_back_is_had_without_judging_anybody(opened: OpenStore) -> None:
    store = opened.store
    me, dead = await process(store, MINUTE), await process(store)
    await begun(store, dead)
    nobodys = await begun(store, NOBODY)
    assert await claimed(store, me, since=0) == {nobodys}


async def test_what_was_brought_in_open_is_left_to_imports_for_a_while(opened: OpenStore) -> None:
    store = opened.store
    holder = holder_of(Kind.SILENT, now())
    before = now() + 60 * MINUTE
    for lease in (60 * MINUTE, MINUTE, 0):
        await store.bring_in([(LIVE_ON, (holder, lease))], ())
    behind = now() + 60 * MINUTE
    key = await begun(store, holder)
    # As a service does that begins, and finds itself alone.
    await store.held.expire_earlier(ids.mint(), now() + MINUTE)
    await store.held.shorten(now() + MINUTE)
    me = await process(store, MINUTE)
    assert await claimed(store, me) == set()
    # The database's clock may be read a millisecond coarser.
    assert await claimed(store, me, since=before - 2_000) == set()
    assert await claimed(store, me, since=behind + 2_000) == {key}


@pytest.mark.parametrize("kind", list(Kind))
async def test_later_imports_keep_nothing_from_being_taken_up(opened: OpenStore, kind: Kind) -> None:
    store = opened.store
    begins = now() // PERIODS[kind] * PERIODS[kind]
    first = holder_of(kind, begins)
    assert holder_of(kind, begins + PERIODS[kind] - 1) == first
    await store.bring_in([(LIVE_ON, (first, LIVES[kind]))], ())
    key = await begun(store, first)
    until = now() + LIVES[kind]
    for period in range(1, 15):
        later = holder_of(kind, begins + period * PERIODS[kind])
        # Something open comes, and the end of what came in the first period.
        lives = [(LIVE_ON, (first, 0)), (LIVE_ON, (later, LIVES[kind] + period * PERIODS[kind]))]
        await store.bring_in(lives, ())
        await begun(store, later)
    me = await process(store, MINUTE)
    assert await claimed(store, me) == set()
    assert await claimed(store, me, since=until + 2_000) == {key}


async def test_a_claim_tells_what_is_needed_to_go_on(opened: OpenStore) -> None:
    store = opened.store
    me = await process(store, MINUTE)
    key = await begun(store, NOBODY)
    (claim,) = await store.held.claim(me, ANYTHING, now(), 10)
    assert (claim.id, claim.background, claim.stream, claim.upstream_stored) == (key, True, False, True)
    assert (claim.deployment_id, claim.upstream_id) == ("dep-1", f"v1_{key.hex()}")
    assert await store.held.claimed_again(me, key) == claim


async def test_claims_are_bounded_and_nothing_is_claimed_twice(opened: OpenStore) -> None:
    store = opened.store
    one, two = await process(store, MINUTE), await process(store, MINUTE)
    keys = {await begun(store, NOBODY) for _ in range(50)}
    taken: list[bytes] = []
    while len(taken) < len(keys):
        several = await asyncio.gather(*(claimed(store, me, most=7) for me in (one, two, one, two)))
        assert all(len(part) <= 7 for part in several)
        taken += [key for part in several for key in part]
    assert sorted(taken) == sorted(keys)


async def test_two_processes_on_one_database_share_what_was_left(store_url: str) -> None:
    async with open_store(store_url) as first, open_store(store_url) as second:
        one, two = await process(first.store, MINUTE), await process(second.store, MINUTE)
        keys = {await begun(first.store, NOBODY) for _ in range(40)}
        taken: list[bytes] = []
        while len(taken) < len(keys):
            several = await asyncio.gather(
                claimed(first.store, one, most=5), claimed(second.store, two, most=5)
            )
            taken += [key for part in several for key in part]
        assert sorted(taken) == sorted(keys)


async def test_who_lives_on_in_this_moment_keeps_what_it_holds(postgres_url: str) -> None:
    async with open_store(postgres_url) as opened:
        me, late = await process(opened.store, MINUTE), await process(opened.store)
        key = await begun(opened.store, late)
        engine = open_engine(postgres_url)
        try:
            async with engine.begin() as beating:
                name = literal(postgres_url, late)
                beat = text(f"UPDATE leases SET due_at = :until WHERE interaction_id = {name}")
                await beating.execute(beat, {"until": now() + MINUTE})
                assert await claimed(opened.store, me) == set()
                assert await opened.store.held.claim_one(me, ANYTHING, now(), key) is None
            assert await claimed(opened.store, me) == set()
        finally:
            await engine.dispose()


async def test_what_is_said_apart_runs_no_longer_in_a_database_that_stalls_though_nobody_waits(
    postgres_url: str,
) -> None:
    ours = "datname = current_database() AND application_name = 'interactions writer'"
    waiting = f"{ours} AND wait_event_type = 'Lock'"

    async def waits() -> bool:
        return bool(await query(postgres_url, f"SELECT 1 FROM pg_stat_activity WHERE {waiting}"))

    async def waits_no_longer() -> bool:
        return not await waits()

    async with open_store(postgres_url) as opened:
        me = await process(opened.store, MINUTE)
        engine = open_engine(postgres_url)
        try:
            async with engine.begin() as stalling:
                await stalling.execute(text("SELECT 1 FROM leases WHERE kind = 'process' FOR UPDATE"))
                said = [opened.store.held.beat(me, MINUTE, apart=True) for _ in range(3)]
                saying = asyncio.gather(*said, return_exceptions=True)
                await eventually(waits)
                saying.cancel()
                await eventually(waits_no_longer)
        finally:
            await engine.dispose()


async def test_one_interaction_can_be_claimed_alone(opened: OpenStore) -> None:
    store = opened.store
    me, alive, dead = await process(store, MINUTE), await process(store, MINUTE), await process(store)
    held, left = await begun(store, alive), await begun(store, dead)
    await begun(store, dead)
    assert await store.held.claim_one(me, ANYTHING, now(), held) is None
    assert await store.held.claim_one(me, ANYTHING, 0, left) is None
    claim = await store.held.claim_one(me, ANYTHING, now(), left)
    assert claim is not None
    assert await store.held.held(me) == {left}


async def test_a_process_lives_as_long_as_it_says(opened: OpenStore) -> None:
    held = opened.store.held
    me = await process(opened.store)
    assert not await held.is_alive(me, now())
    moment = await held.beat(me, MINUTE)
    assert moment is not None
    assert await held.is_alive(me, moment + MINUTE // 2)
    assert not await held.is_alive(me, moment + 2 * MINUTE)
    assert await held.beat(ids.mint(), MINUTE) is None
    assert not await held.is_alive(NOBODY, now())


async def test_who_was_alone_declares_those_dead_that_were_before_and_not_who_came_meanwhile(
    opened: OpenStore,
) -> None:
    store = opened.store
    dead = await process(store, MINUTE)
    ahead = ids.derived(now() // 1000 + 3_600_000, "by a clock that was an hour ahead")
    await store.held.enter(ahead, now() + 61 * MINUTE)
    await asyncio.sleep(0.002)
    since = ids.first_of_now()
    me, other = await process(store, MINUTE), await process(store, MINUTE)
    await store.held.expire_earlier(since, now() + MINUTE)
    assert not await store.held.is_alive(dead, now())
    assert not await store.held.is_alive(ahead, now())
    assert await store.held.is_alive(other, now())
    assert await store.held.is_alive(me, now())


async def test_a_process_that_ends_leaves_nothing_behind(opened: OpenStore) -> None:
    store = opened.store
    me, other = await process(store, MINUTE), await process(store, MINUTE)
    keys = {await begun(store, me) for _ in range(3)}
    ended = await begun(store, me)
    await store.finish(outcome(ended, owner_id=me), b"{}")
    assert await store.held.leave(me) == 3
    assert await claimed(store, other, since=0) == keys
    assert not await store.held.is_alive(me, now())


async def test_what_a_process_said_before_it_left_and_comes_later_brings_it_back_no_more(
    opened: OpenStore,
) -> None:
    held = opened.store.held
    me, forgotten = await process(opened.store, MINUTE), ids.mint()
    await held.leave(me)
    for apart in (False, True):
        assert await held.beat(me, MINUTE, apart=apart) is None
        assert await held.enter_again(me, MINUTE, apart=apart) is None
    assert not await held.is_alive(me, now())
    assert await held.beat(forgotten, MINUTE) is None
    assert await held.enter_again(forgotten, MINUTE) is not None
    assert await held.is_alive(forgotten, now())
    assert await held.beat(forgotten, MINUTE) is not None


async def test_who_said_too_long_ago_that_it_judges_vouches_for_nothing(opened: OpenStore) -> None:
    held = opened.store.held
    me, other = await process(opened.store, MINUTE), ids.mint()
    assert await held.beat(me, MINUTE, vouches_until=await held.clock() + MINUTE) is not None
    assert await held.others_judge(other, 0)
    assert not await held.others_judge(me, 0)
    assert await held.beat(me, MINUTE, vouches_until=await held.clock() - 1) is not None
    assert not await held.others_judge(other, 0)


async def test_what_is_begun_while_its_process_ends_is_claimed(opened: OpenStore, store_url: str) -> None:
    store = opened.store
    me, other = await process(store, MINUTE), await process(store, MINUTE)
    beginning = []
    for _ in range(5):
        beginning.append(asyncio.create_task(store.begin(intent(owner_id=me), b"{}")))
        await asyncio.sleep(0.0005)
    for task in beginning:
        task.cancel()
    await store.held.leave(me)
    found = await query(store_url, "SELECT id FROM interactions WHERE completed_at IS NULL")
    assert await claimed(store, other) == {getattr(key, "bytes", key) for (key,) in found}
    late = await begun(store, me)
    await store.held.forget_dead(now() - MINUTE)
    assert await claimed(store, other) == {late}


async def test_some_can_be_handed_back(opened: OpenStore) -> None:
    store = opened.store
    me, other = await process(store, MINUTE), await process(store, MINUTE)
    first, second, foreign = await begun(store, me), await begun(store, me), await begun(store, other)
    await store.held.hand_back(me, [first, foreign])
    assert await store.held.held(me) == {second}
    assert await claimed(store, me) == {first}


async def test_the_dead_are_forgotten_when_they_hold_nothing(opened: OpenStore, store_url: str) -> None:
    store = opened.store
    await process(store)
    holding = await process(store)
    await begun(store, holding)
    alive = await process(store, MINUTE)
    await store.held.forget_dead(now())
    rows = await query(store_url, "SELECT interaction_id FROM leases WHERE kind = 'process'")
    known = {getattr(key, "bytes", key) for (key,) in rows}
    assert known == {NOBODY, holding, alive}


async def log_of(store: Store, key: bytes) -> list[bytes]:
    return [event.frame for event in await store.events.all(key)]


async def test_who_has_lost_an_interaction_changes_nothing_of_it(opened: OpenStore, store_url: str) -> None:
    store = opened.store
    stale, me = await process(store), await process(store, MINUTE)
    key = await begun(store, stale)
    before = EventBatch(1, 1, b"event: before\ndata: {}\n\n", None)
    await store.events.append(before.write(key, stale))
    assert await claimed(store, me) == {key}
    whole = await query(store_url, "SELECT * FROM interactions")
    late = EventBatch(2, 2, b"event: late\ndata: {}\n\n", None)
    await store.events.append(late.write(key, stale))
    await store.note_status(key, "queued", stale)
    await store.held.hand_back(stale, [key])
    for written in (outcome(key, owner_id=stale), running(key, owner_id=stale)):
        await assert_superseded(store.finish(written, b"late", log=[late.write_last(key, stale)]))
    assert await query(store_url, "SELECT * FROM interactions") == whole
    assert await log_of(store, key) == [b"event: before\ndata: {}\n\n"]
    assert await query(store_url, "SELECT size FROM payloads WHERE kind = 2") == [(2,)]
    last = EventBatch(2, 2, b"event: last\ndata: {}\n\n", None)
    await store.finish(outcome(key, owner_id=me), b"whole", log=[last.write_last(key, me)])
    # Its own outcome again, as after a commit that was not confirmed, is no news and no error.
    await store.finish(outcome(key, owner_id=me), b"whole")
    await assert_superseded(store.finish(outcome(key, owner_id=stale), b"late"))
    assert (await log_of(store, key))[1:] == [b"event: last\ndata: {}\n\n"]


async def assert_superseded(writing: Awaitable[None]) -> None:
    with pytest.raises(Superseded):
        await writing


async def test_one_that_is_lost_spoils_nothing_for_others(opened: OpenStore) -> None:
    store = opened.store
    stale, me = await process(store), await process(store, MINUTE)
    lost, kept = await begun(store, stale), await begun(store, me)
    await claimed(store, me)
    results = await asyncio.gather(
        store.finish(outcome(lost, owner_id=stale), b"late"),
        store.finish(outcome(kept, owner_id=me), b"whole"),
        store.finish(outcome(ids.mint(), owner_id=me), b"of nothing"),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [Superseded, type(None), StoreError]


async def test_what_a_dead_process_left_behind_a_gap_is_dropped(opened: OpenStore) -> None:
    store = opened.store
    me, other = await process(store, MINUTE), await process(store, MINUTE)
    key, foreign = await begun(store, me), await begun(store, other)
    for first in (1, 3):
        batch = EventBatch(first, first, b"event: e\ndata: {}\n\n", None)
        await store.events.append(batch.write(key, me), batch.write(foreign, other))
    for name in (key, foreign):
        await store.events.trim(name, 1, me)
    assert [await store.events.last(name) for name in (key, foreign)] == [1, 3]
