"""The service is killed, and the stream breaks for whoever goes on: an id of an event never stands for two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.store.kept_events import DISTANCE
from service.wire import event_ids
from tests.support.database import Database
from tests.support.gateway import eventually
from tests.support.reconciling import assert_reconciles
from tests.support.replies import Json, Live
from tests.support.store import query
from tests.support.stream_processes import Replica, replicas
from tests.support.upstreams import Emulated

BODY: Json = {"model": "gemini-2.5-flash", "input": "Tell me"}
WHOLE = 1e6
#: What a client was told, and of that what the log has, when the service is killed; the next reader gets some of it.
TOLD, LOGGED, AGAIN = 12, 6, 3
_END_THOSE_WHO_WAIT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def upstream() -> AsyncIterator[Emulated]:
    """An emulator that outlives the service; its streams go on when its clock is moved, one event a minute."""
    emulated = Emulated(token_delay=60.0, stream_limit_seconds=1e9, foreground_event_ids=True)
    await emulated.server.start_server()
    yield emulated
    await emulated.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    looking = Database(database_url)
    yield looking
    await looking.close()


async def logged(database: Database, name: str) -> int:
    return max((last for _, last, _ in await database.log(name)), default=0)


async def killed(service: Replica, database: Database, upstream: Emulated) -> tuple[str, list[Json]]:
    """A stream of a service that is killed while the database does not take what it tells."""
    async with service.create(BODY, x_emulator_behavior="length;bytes=4000") as live:
        await live.next()
        # Two events come at once.
        upstream.clock.advance(60 * (LOGGED - 2) + 1)
        await told(live, LOGGED)

        async def in_the_log() -> bool:
            return await logged(database, live.id) == LOGGED

        await eventually(in_the_log)
        async with database.held():
            upstream.clock.advance(60 * (TOLD - LOGGED))
            await told(live, TOLD)
            await service.kill()
            if not database.is_sqlite:
                # Its last write, if it is waiting already, would be carried out without it.
                await query(database.url, _END_THOSE_WHO_WAIT)
        return live.id, live.events[:TOLD]


async def expire(database_url: str) -> None:
    """As if the time had passed in which the process would have given a sign of life."""
    await query(database_url, "UPDATE leases SET due_at = 1 WHERE kind = 'process'")


async def told(live: Live, count: int) -> None:
    while len(live.events) < count:
        assert await live.next() is not None


async def test_an_id_that_was_lost_is_no_other_events_though_the_next_reader_loses_the_stream_too(
    database_url: str, database: Database, upstream: Emulated
) -> None:
    async with replicas(1, database_url, upstream.url) as (service,):
        name, lost = await killed(service, database, upstream)
    assert await logged(database, name) == LOGGED
    upstream.fault(f"cut;after={AGAIN}", method="GET", path="stream=true")
    upstream.fault("status;code=404", count=0, method="GET", path="stream=true")
    await expire(database_url)
    async with replicas(1, database_url, upstream.url) as (service,):
        async with service.attach(name) as listening, service.attach(name) as slow:
            await told(listening, LOGGED + AGAIN)
            await slow.next()
            assert listening.events == lost[: LOGGED + AGAIN]
            upstream.clock.advance(WHOLE)
            events = (await listening.rest()).events
            assert (await slow.rest()).events == events
        whole = await service.finished(name)
        assert whole["status"] == "completed"
        text = "".join(event["delta"].get("text", "") for event in events if "delta" in event)
        assert text == whole["steps"][-1]["content"][0]["text"]
        # What the service itself has made of upstream's word has ids that no process can have given out before.
        assert [event["event_id"] for event in events[LOGGED + AGAIN :]] == [
            event_ids.text(LOGGED + AGAIN + DISTANCE + place) for place in range(len(events) - LOGGED - AGAIN)
        ]
        for place in (LOGGED, LOGGED + AGAIN, len(events) - 2):
            async with service.attach(name, events[place - 1]["event_id"]) as resumed:
                assert (await resumed.rest()).events == events[place:]
        refusals = await asyncio.gather(
            *(service.refused(name, event["event_id"]) for event in lost[LOGGED + AGAIN :])
        )
        assert set(refusals) == {400}
    await assert_reconciles(database_url)


async def test_an_event_that_was_told_and_not_logged_is_to_be_asked_for_again_until_it_is_told_again(
    database_url: str, database: Database, upstream: Emulated
) -> None:
    async with replicas(1, database_url, upstream.url) as (service,):
        name, lost = await killed(service, database, upstream)
    # Its lease is not over before the next process is there, however long that takes.
    await query(database_url, "UPDATE leases SET due_at = due_at + 60000000 WHERE kind = 'process'")
    last = lost[-1]["event_id"]
    async with replicas(1, database_url, upstream.url) as (service,):
        assert await service.refused(name, event_ids.text(TOLD + DISTANCE)) == 400
        if not database.is_sqlite:
            # The process that was killed still holds the interaction.
            assert await service.refused(name, last) == 503
        await expire(database_url)
        async with service.attach(name, lost[LOGGED - 1]["event_id"]) as again:
            await told(again, TOLD - LOGGED)
            assert again.events == lost[LOGGED:]
            # The process that goes on has told no more than this.
            assert await service.refused(name, event_ids.text(TOLD + 1)) == 503
            async with service.attach(name, last) as resumed:
                upstream.clock.advance(WHOLE)
                events = (await again.rest()).events
                assert (await resumed.rest()).events == events[TOLD - LOGGED :]
        assert await service.refused(name, event_ids.text(LOGGED + len(events) + 1)) == 400
