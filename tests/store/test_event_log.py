"""The event log: batches in, any place out, on both databases."""

from __future__ import annotations

import asyncio

import pytest

from service.store import kept_events
from service.store.kept_events import APPENDED, EventBatch, Page
from service.store.records import now
from service.store.store import Store
from service.store.tables import NOBODY
from service.wire import ids
from tests.support.store import OpenStore, intent, is_sqlite, open_store, outcome, query


def frame(seq: int, text: str = "a word") -> bytes:
    return b'event: step.delta\ndata: {"text":"%b","event_id":"evt_%d"}\n\n' % (text.encode(), seq)


def batch(first: int, last: int, text: str = "a word", cursor: str | None = None) -> EventBatch:
    frames = b"".join(frame(seq, text) for seq in range(first, last + 1))
    return EventBatch(first, last, frames, cursor)


async def begun(store: Store) -> bytes:
    entry = intent(stream=True)
    await store.begin(entry, b"{}")
    return entry.id


async def page_after(store: Store, key: bytes, seq: int) -> Page:
    page = await store.events.after(key, seq)
    assert page is not None
    return page


async def test_the_log_is_read_from_any_event_on(opened: OpenStore) -> None:
    store = opened.store
    key, other = await begun(store), await begun(store)
    for first, last in ((1, 3), (4, 4), (5, 9)):
        await store.events.append(
            batch(first, last).write(key, NOBODY), batch(first, last, "else").write(other, NOBODY)
        )
    for seq in range(10):
        page = await page_after(store, key, seq)
        assert [event.seq for event in page.events] == list(range(seq + 1, 10))
        assert [event.frame for event in page.events] == [frame(n) for n in range(seq + 1, 10)]
        assert not page.ended
    assert await store.events.last(key) == 9


async def test_an_interaction_without_events_has_an_empty_log(opened: OpenStore) -> None:
    key = await begun(opened.store)
    assert await page_after(opened.store, key, 0) == Page([], False, False)
    assert await opened.store.events.last(key) == 0
    await opened.store.finish(outcome(key), b"{}")
    assert await page_after(opened.store, key, 0) == Page([], True, False)


async def test_a_long_log_comes_in_pages(opened: OpenStore) -> None:
    key = await begun(opened.store)
    for first in range(1, 401, 2):
        await opened.store.events.append(batch(first, first + 1).write(key, NOBODY))
    page = await page_after(opened.store, key, 0)
    assert page.full
    assert len(page.events) < 400
    assert [event.seq for event in await opened.store.events.all(key)] == list(range(1, 401))


@pytest.mark.parametrize("count", [1, 3, 9])
async def test_the_logs_of_several_are_read_at_once(opened: OpenStore, count: int) -> None:
    store = opened.store
    keys = [await begun(store) for _ in range(count)]
    for number, key in enumerate(keys):
        for first in (1, 3, 5):
            await store.events.append(batch(first, first + 1, f"of {number}").write(key, NOBODY))
    empty, unknown = await begun(store), ids.mint()
    logs = await store.events.logs([*keys, empty, unknown])
    assert logs.keys() == {*keys, empty}
    assert list(logs[empty]) == []
    for number, key in enumerate(keys):
        assert [event.frame for event in logs[key]] == [frame(seq, f"of {number}") for seq in range(1, 7)]
    assert await store.events.logs([]) == {}


async def test_nothing_behind_a_gap_that_may_be_filled_is_read_with_others(opened: OpenStore) -> None:
    store = opened.store
    running, ended = await begun(store), await begun(store)
    for key in (running, ended):
        for first, last in ((1, 2), (5, 6)):
            await store.events.append(batch(first, last).write(key, NOBODY))
    await store.finish(outcome(ended), b"{}")
    logs = await store.events.logs([running, ended])
    assert [event.seq for event in logs[running]] == [1, 2]
    assert [event.seq for event in logs[ended]] == [1, 2, 5, 6]


async def test_the_last_events_are_committed_with_the_outcome(opened: OpenStore, store_url: str) -> None:
    store = opened.store
    key = await begun(store)
    await store.events.append(batch(1, 2).write(key, NOBODY))
    await store.events.wish_cancel(key)
    last = [batch(3, 5).write_last(key, NOBODY), kept_events.forget_wishes(key, NOBODY)]
    await store.finish(outcome(key), b"{}", log=last)
    page = await page_after(store, key, 0)
    assert [event.seq for event in page.events] == [1, 2, 3, 4, 5]
    assert page.ended
    assert await query(store_url, "SELECT kind FROM leases") == []


async def test_nothing_is_added_to_what_has_ended(opened: OpenStore) -> None:
    store = opened.store
    key = await begun(store)
    await store.finish(outcome(key), b"{}", log=[batch(1, 2).write_last(key, NOBODY)])
    await store.events.append(batch(3, 4, "too late").write(key, NOBODY))
    assert await store.events.last(key) == 2


async def test_of_two_who_go_on_at_one_place_the_first_is_heard(opened: OpenStore) -> None:
    store = opened.store
    key = await begun(store)
    await store.events.append(batch(1, 2).write(key, NOBODY))
    await store.events.append(batch(3, 4, "first").write(key, NOBODY))
    await store.events.append(batch(3, 5, "second").write(key, NOBODY))
    assert [event.frame for event in await store.events.all(key)][2:] == [
        frame(3, "first"),
        frame(4, "first"),
    ]


async def test_a_deleted_interaction_has_no_log_and_gets_none(opened: OpenStore, store_url: str) -> None:
    store = opened.store
    key = await begun(store)
    await store.events.append(batch(1, 2, "a secret").write(key, NOBODY))
    await store.delete(key, now(), None)
    await store.events.append(batch(3, 4, "a secret").write(key, NOBODY))
    assert await store.events.after(key, 0) is None
    assert await query(store_url, "SELECT first_seq FROM events") == []


async def test_what_is_deleted_and_kept_for_another_has_a_log_that_is_told_to_nobody(
    opened: OpenStore, store_url: str
) -> None:
    store = opened.store
    key = await begun(store)
    follow_up = intent(previous_id=key, root_id=key, depth=1)
    await store.begin(follow_up, b"{}")
    await store.delete(key, now(), None)
    await store.events.append(batch(1, 2).write(key, NOBODY))
    assert [event.seq for event in await store.events.all(key)] == [1, 2]
    assert await store.events.after(key, 0) is None
    # It goes with what needed it.
    await store.finish(outcome(follow_up.id), b"{}")
    await store.delete(follow_up.id, now(), None)
    assert await query(store_url, "SELECT first_seq FROM events") == []
    await store.events.append(batch(3, 4, "a secret").write(key, NOBODY))
    assert await query(store_url, "SELECT first_seq FROM events") == []


async def test_upstreams_cursor_stands_beside_the_events(opened: OpenStore, store_url: str) -> None:
    key = await begun(opened.store)
    await opened.store.events.append(batch(1, 2, cursor="evt_up_2").write(key, NOBODY))
    await opened.store.events.append(batch(3, 3, cursor="nul \0").write(key, NOBODY))
    rows = await query(store_url, "SELECT upstream_cursor FROM events ORDER BY first_seq")
    assert rows == [("evt_up_2",), ("nul \ufffd",)]


async def test_a_wish_to_cancel_stands_until_the_end(opened: OpenStore) -> None:
    store = opened.store
    key = await begun(store)
    await store.events.wish_cancel(key)
    await store.events.wish_cancel(key)
    assert await store.events.to_cancel() == {key}
    await store.finish(outcome(key, status="cancelled"), b"{}", log=[kept_events.forget_wishes(key, NOBODY)])
    assert await store.events.to_cancel() == set()


async def test_a_wish_to_cancel_what_has_ended_is_none(opened: OpenStore, store_url: str) -> None:
    store = opened.store
    early, late = await begun(store), await begun(store)
    await store.events.wish_cancel(early)
    for key in (early, late):
        await store.finish(outcome(key), b"{}")
    await store.events.wish_cancel(late)
    assert await store.events.to_cancel() == set()
    assert await query(store_url, "SELECT count(*) FROM leases WHERE kind = 'cancel'") == [(1,)]
    await store.held.forget_vain_wishes()
    assert await query(store_url, "SELECT count(*) FROM leases WHERE kind = 'cancel'") == [(0,)]


async def test_another_process_hears_of_news(store_url: str) -> None:
    if is_sqlite(store_url):
        pytest.skip("A SQLite file belongs to one process.")
    async with open_store(store_url) as one, open_store(store_url) as other:
        heard = asyncio.Event()
        other.store.events.on_news(APPENDED, heard.set)
        async with asyncio.timeout(20):
            while not heard.is_set():
                await one.store.events.announce("something else")
                await one.store.events.announce(APPENDED)
                await asyncio.sleep(0.05)


async def test_another_process_hears_of_which_interaction_there_is_news(store_url: str) -> None:
    if is_sqlite(store_url):
        pytest.skip("A SQLite file belongs to one process.")
    async with open_store(store_url) as one, open_store(store_url) as other:
        key = ids.mint()
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        other.store.events.on_news_of(APPENDED, heard.put_nowait)
        async with asyncio.timeout(20):
            while heard.empty():
                await one.store.events.announce(APPENDED)
                await one.store.events.announce("something else", ids.mint())
                await one.store.events.announce(APPENDED, key)
                await asyncio.sleep(0.05)
        assert {heard.get_nowait() for _ in range(heard.qsize())} == {key}


async def test_many_streams_share_one_transaction(opened: OpenStore) -> None:
    keys = [await begun(opened.store) for _ in range(50)]
    before = opened.writer.statistics.batches
    await opened.store.events.append(*(batch(1, 3).write(key, NOBODY) for key in keys))
    assert opened.writer.statistics.batches == before + 1
    for key in keys:
        assert await opened.store.events.last(key) == 3


async def test_what_a_batch_that_is_held_up_leaves_out_is_waited_for(opened: OpenStore) -> None:
    store = opened.store
    key = await begun(store)
    await store.events.append(batch(1, 2).write(key, NOBODY))
    await store.events.append(batch(5, 6).write(key, NOBODY))
    assert [event.seq for event in (await page_after(store, key, 0)).events] == [1, 2]
    assert (await page_after(store, key, 2)).events == []
    await store.events.append(batch(3, 4).write(key, NOBODY))
    assert [event.seq for event in await store.events.all(key)] == [1, 2, 3, 4, 5, 6]


async def test_what_was_lost_for_good_is_not_waited_for(opened: OpenStore) -> None:
    store = opened.store
    key, ended = await begun(store), await begun(store)
    far = 2 + kept_events.DISTANCE
    await store.events.append(batch(1, 2).write(key, NOBODY), batch(far, far + 1).write(key, NOBODY))
    assert [event.seq for event in await store.events.all(key)] == [1, 2, far, far + 1]
    await store.events.append(batch(1, 2).write(ended, NOBODY), batch(5, 6).write(ended, NOBODY))
    await store.finish(outcome(ended), b"{}")
    assert [event.seq for event in await store.events.all(ended)] == [1, 2, 5, 6]


async def test_a_page_of_large_batches_is_bounded_in_bytes(opened: OpenStore) -> None:
    store = opened.store
    key = await begun(store)
    frames = [frame(seq, "x" * 10_000) for seq in range(1, 201)]
    batches = kept_events.batches_of(1, frames, "u200")
    assert [(entry.first_seq, entry.last_seq) for entry in batches][:2] == [(1, 7), (8, 14)]
    assert batches[-1].last_seq == 200
    assert [entry.upstream_cursor for entry in batches if entry.upstream_cursor] == ["u200"]
    assert b"".join(entry.frames for entry in batches) == b"".join(frames)
    await store.events.append(*(entry.write(key, NOBODY) for entry in batches))
    page = await page_after(store, key, 0)
    assert page.full
    assert sum(len(event.frame) for event in page.events) < 256 * 1024
    assert [event.frame for event in await store.events.all(key)] == frames


def test_an_event_that_is_larger_than_a_batch_has_its_own() -> None:
    frames = [frame(1), frame(2, "x" * 100_000), frame(3)]
    batches = kept_events.batches_of(1, frames, None)
    assert [(entry.first_seq, entry.last_seq) for entry in batches] == [(1, 2), (3, 3)]
    assert kept_events.batches_of(1, [], None) == []
