"""Two processes on one PostgreSQL: what one reads is followed, and cancelled, through the other (promise P8)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from service.store.hints import CHANNEL
from service.wire import ids
from tests.support.postgres import PostgresServer
from tests.support.reconciling import assert_reconciles
from tests.support.replies import Json, Live
from tests.support.store import literal, query
from tests.support.stream_processes import Replica, replicas
from tests.support.upstreams import Emulated

WHOLE = 1e6
LEGACY = {"api-revision": "2026-05-07"}
BODY: Json = {"model": "gemini-2.5-flash", "input": "Tell me", "tools": [{"type": "google_search"}]}


#: What a database calls in place of its own function, and what that does while hints arrive, and when they are lost.
_HINTING = "CREATE OR REPLACE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN {} END $$"
_ARRIVE, _ARE_LOST = "PERFORM pg_catalog.pg_notify($1, $2);", ""


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    """An empty PostgreSQL database whose hints a test can lose."""
    name = f"p{uuid.uuid4().hex}"
    url = postgres_server.create_database(name)
    asyncio.run(query(url, _HINTING.format(_ARRIVE)))
    asyncio.run(query(url, f"ALTER DATABASE {name} SET search_path = public, pg_catalog"))
    return url


@asynccontextmanager
async def hints(database: str) -> AsyncIterator[list[object]]:
    """What whoever listens for hints hears meanwhile."""
    heard: list[object] = []
    connection = await asyncpg.connect(database)
    await connection.add_listener(CHANNEL, lambda *hint: heard.append(hint[-1]))
    try:
        yield heard
    finally:
        await connection.close()


async def first_events(live: Live, count: int) -> list[Json]:
    """So many events, after which the client leaves."""
    for _ in range(count):
        assert await live.next() is not None
    live.leave()
    return live.events[:count]


async def test_a_stream_of_one_process_is_followed_and_cancelled_through_the_other(
    upstream: Emulated, database: str
) -> None:
    async with replicas(2, database, upstream.url) as (one, other):
        await _followed(one, other, upstream)
        async with hints(database) as heard:
            await _followed_live(one, other, upstream)
            await _cancelled(one, other, upstream)
        assert heard
        # They only tell when to look: nothing is missed without them.
        await query(database, _HINTING.format(_ARE_LOST))
        async with hints(database) as heard:
            await _followed_live(one, other, upstream)
            await _cancelled(one, other, upstream)
        assert not heard
        await _taken_over(one, other, upstream, database)
        await assert_reconciles(database)
        for replica in (one, other):
            assert not [line for line in replica.process.log if "level=error" in line]


async def _followed(one: Replica, other: Replica, upstream: Emulated) -> None:
    """A client that changes the process after every event has seen the whole stream."""
    async with one.create(BODY) as live:
        seen = await first_events(live, 1)
    while seen[-1]["event_type"] != "interaction.completed":
        upstream.clock.advance(60)
        one, other = other, one
        async with one.attach(live.id, seen[-1]["event_id"]) as resumed:
            seen += await first_events(resumed, 1)
    for replica in (one, other):
        async with replica.attach(live.id) as again:
            assert (await again.rest()).events == seen
    assert [event["event_id"] for event in seen] == [f"evt_{seq}" for seq in range(1, len(seen) + 1)]
    assert len(upstream.requests) == 1, "upstream was asked by the process that does not read the stream"
    upstream.clear()


async def _followed_live(one: Replica, other: Replica, upstream: Emulated) -> None:
    """Listeners of both processes and both generations are told the same as it happens."""
    async with one.create(BODY) as live:
        await live.next()
        async with other.attach(live.id) as second, other.attach(live.id, headers=LEGACY) as third:
            for _ in range(5):
                upstream.clock.advance(60)
                assert (
                    await second.next() == await live.next() if len(live.events) > 1 else await second.next()
                )
            assert (await other.call("GET", live.id))["status"] == "in_progress"
            upstream.clock.advance(WHOLE)
            told = await asyncio.gather(live.rest(), second.rest(), third.rest())
    assert told[0].events == told[1].events
    assert told[0].text == told[2].text
    assert all(streamed.final["status"] == "completed" for streamed in told)
    assert (await other.call("GET", live.id))["status"] == "completed"
    upstream.clear()


async def _cancelled(one: Replica, other: Replica, upstream: Emulated) -> None:
    """A cancel through the other process ends the stream for everybody who listens."""
    for background in (False, True):
        # An agent of upstream runs by its own times.
        wish = "background;queued=60;running=6000"
        async with one.create({**BODY, "background": background}, x_emulator_behavior=wish) as live:
            await live.next()
            upstream.clock.advance(600)
            await live.until("step.start")
            async with other.attach(live.id) as second:
                body = await other.call("POST", f"{live.id}/cancel")
                assert body["status"] == "cancelled"
                told = await asyncio.gather(live.rest(), second.rest())
        assert told[0].events == told[1].events
        assert told[0].final["status"] == "cancelled"
        assert body["steps"]
        assert await one.call("GET", live.id) == await other.call("GET", live.id)
        assert len([seen for seen in upstream.calls("POST") if "cancel" in seen["path"]]) == background
        upstream.clear()


async def _taken_over(one: Replica, other: Replica, upstream: Emulated, database: str) -> None:
    """The process that reads a stream is killed; through the other the stream comes to its end."""
    async with one.create(BODY) as live:
        await live.next()
        upstream.clock.advance(60 * 6)
        async with other.attach(live.id) as second:
            for _ in range(5):
                await second.next()
            await one.kill()
            assert (await live.rest()).broken
            # As if the time had passed in which the process would have given a sign of life.
            key = ids.from_text(live.id)
            assert key is not None
            holder = f"SELECT owner_id FROM interactions WHERE id = {literal(database, key)}"
            await query(database, f"UPDATE leases SET due_at = 1 WHERE interaction_id = ({holder})")
            upstream.clock.advance(WHOLE)
            whole = await other.finished(live.id)
            streamed = await second.rest()
    assert streamed.final["status"] == whole["status"] == "completed"
    assert streamed.text == "".join(
        part["text"] for step in whole["steps"] if step["type"] == "model_output" for part in step["content"]
    )
    assert streamed.events[: len(live.events)] == live.events[: len(streamed.events)]
