"""What readers append to the event log: nothing is left out, and nothing counts as logged that is not."""

from __future__ import annotations

import asyncio
from itertools import count

from service.interactions.log import EventLog
from service.store.entries import Write
from service.store.kept_events import Event, EventBatch
from service.store.store import Store
from service.store.tables import NOBODY
from tests.support.store import intent, open_store, running


def event(seq: int) -> Event:
    return Event(seq, b'event: step.delta\ndata: {"event_id":"evt_%d"}\n\n' % seq)


async def emptied(log: EventLog) -> None:
    """Write what waits or is being written now."""
    await log.written()
    await log.flushed()


async def begun(store: Store) -> bytes:
    entry = intent(stream=True)
    await store.begin(entry, b"{}")
    return entry.id


async def test_what_the_writer_had_no_room_for_at_the_beginning_is_logged_later(database_url: str) -> None:
    async with open_store(database_url, byte_limit=1) as opened:
        store = opened.store
        key, other = await begun(store), await begun(store)
        # Long enough that nothing is tried again before it was looked at.
        log = EventLog(store.events, NOBODY, 0.5)
        stream, logged = log.open(key), list[int]()
        stream.on_written = logged.append

        def write(batches: list[Write]) -> asyncio.Task[None]:
            return asyncio.create_task(store.finish(running(key), None, log=batches))

        filling = EventBatch(1, 1, event(1).frame, None).write(other, NOBODY)
        full = asyncio.create_task(store.events.append(filling))
        await asyncio.sleep(0)
        stream.append(*event(1), None)
        stream.begin(write)
        await stream.settled()
        assert logged == []
        stream.append(*event(2), None)
        await full
        await emptied(log)
        assert await store.events.all(key) == [event(1), event(2)]
        assert logged[-1] == 2
        await log.close()


async def test_what_the_database_refuses_is_not_told_to_be_durable(database_url: str) -> None:
    async with open_store(database_url) as opened:
        store = opened.store
        log = EventLog(store.events, NOBODY, 0.01)
        streams = [log.open(await begun(store)) for _ in range(2)]
        logged: list[list[int]] = [[], []]
        for stream, seqs in zip(streams, logged, strict=True):
            stream.on_written = seqs.append
            stream.append(*event(1), None)
        await emptied(log)
        streams[0].append(*event(2**63), None)
        streams[1].append(*event(2), None)
        await emptied(log)
        assert logged == [[1], [1, 2]]
        await log.close()


async def test_what_is_left_to_others_is_in_the_log_before_they_go_on(database_url: str) -> None:
    async with open_store(database_url) as opened:
        store = opened.store
        log = EventLog(store.events, NOBODY, 60.0)
        stream = log.open(await begun(store))
        stream.append(*event(1), None)
        flushing = asyncio.create_task(log.flushed())
        await asyncio.sleep(0)
        stream.append(*event(2), None)
        await stream.left()
        assert await store.events.all(stream.key) == [event(1), event(2)]
        await flushing
        await log.close()


async def test_what_waits_is_written_though_other_streams_go_on(database_url: str) -> None:
    async with open_store(database_url) as opened:
        store = opened.store
        log = EventLog(store.events, NOBODY, 0.001)
        stream, other = log.open(await begun(store)), log.open(await begun(store))

        async def go_on() -> None:
            for seq in count(1):
                other.append(*event(seq), None)
                await asyncio.sleep(0)

        going_on = asyncio.create_task(go_on())
        await asyncio.sleep(0.01)
        stream.append(*event(1), None)
        async with asyncio.timeout(20):
            await emptied(log)
        assert await store.events.all(stream.key) == [event(1)]
        going_on.cancel()
        await log.close()
