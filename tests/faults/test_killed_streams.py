"""kill -9 between two events: what a client was told longer ago than the flush interval is in the log.

How long a commit takes, and how long the process waits for the processor, depends on what else the machine does. So a
client without a stream sends one request after the other meanwhile, each of which waits for two commits and for nothing
else: what the slowest of them took, the one that the kill interrupts included, is what the log may be later than its
interval.

``STREAM_KILLS`` sets how often the service is killed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from time import monotonic

import pytest
from aiohttp import ClientError

from service.interactions.log import FLUSH_INTERVAL
from service.wire import event_ids, ids
from tests.support.database import Database
from tests.support.outliving import outliving
from tests.support.reconciling import assert_reconciles
from tests.support.replies import Json
from tests.support.store import open_store, query
from tests.support.stream_processes import Replica, replicas
from tests.support.upstreams import Emulated

KILLS = int(os.environ.get("STREAM_KILLS", "3"))
STREAMS = 6
#: The next process takes over soon what the killed one held; one that is only slow does not lose it.
HASTY = {"lease_seconds": 3.0, "claim_interval": 0.1}
BODY: Json = {"model": "gemini-2.5-flash", "input": "Tell me"}
#: Seconds by which a timer may be late on a busy machine, and for which what the client reads may lie in its socket.
_SLACK = 0.1


@dataclass(slots=True)
class Told:
    """What one client was told, and when each event came."""

    name: str = ""
    events: list[Json] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Probe:
    """How long the slowest of the requests took that only wait for commits, one after the other."""

    slowest: float = 0.0
    answered: int = 0

    async def run(self, service: Replica) -> None:
        """Send them until the service is gone."""
        with suppress(ClientError):
            while True:
                began = monotonic()
                try:
                    await service.commit_twice(BODY)
                    self.answered += 1
                finally:
                    self.slowest = max(self.slowest, monotonic() - began)


@pytest.fixture
async def upstream() -> AsyncIterator[Emulated]:
    """An emulator that outlives the service, with an event every few milliseconds."""
    async with outliving(token_delay=0.01) as emulated:
        yield emulated


@pytest.mark.timeout(300 + 20 * KILLS)
async def test_what_a_client_was_told_is_in_the_log_after_a_kill(
    database_url: str, upstream: Emulated, record_property: Callable[[str, object], None]
) -> None:
    random = Random(4)
    oldest = slowest = 0.0
    late = -FLUSH_INTERVAL
    told_in_all = lost_in_all = 0
    for _ in range(KILLS):
        clients: list[Told] = []
        probe = Probe()
        async with replicas(1, database_url, upstream.url, **HASTY) as (service,):
            following = [asyncio.create_task(_follow(service, clients)) for _ in range(STREAMS)]
            while sum(len(client.events) for client in clients) < 3 * STREAMS:
                await asyncio.sleep(0.01)
            probing = asyncio.create_task(probe.run(service))
            while not probe.answered:
                await asyncio.sleep(0.01)
            await asyncio.sleep(random.uniform(0, 0.3))
            killed = monotonic()
            await service.kill()
            await asyncio.gather(*following, probing)
        lost = [await _lost(database_url, client) for client in clients]
        told_in_all += sum(len(client.events) for client in clients)
        lost_in_all += sum(lost)
        for client, count in zip(clients, lost, strict=True):
            for moment in client.moments[len(client.moments) - count :]:
                slowest = max(slowest, probe.slowest)
                oldest = max(oldest, killed - moment)
                late = max(late, killed - moment - FLUSH_INTERVAL - probe.slowest)
        await _resume(database_url, upstream, clients, lost)
    async with replicas(1, database_url, upstream.url, **HASTY):
        await assert_reconciles(database_url)
    counts = (
        f"{KILLS} kills, {told_in_all} events told, {lost_in_all} of them not in the log, the oldest of those told "
        f"{oldest * 1000:.0f} ms before the kill; the flush interval is {FLUSH_INTERVAL * 1000:.0f} ms, two commits "
        f"took {slowest * 1000:.0f} ms at most, and both together were exceeded by {late * 1000:.0f} ms at most"
    )
    record_property("counts", counts)
    assert told_in_all > 0, counts
    assert late < _SLACK, counts


async def _follow(service: Replica, clients: list[Told]) -> None:
    """Take down what a stream tells until it ends, whichever way."""
    told = Told()
    clients.append(told)
    with suppress(ClientError):
        # Some can be taken up where the log ends, others are asked for.
        wish = "length;bytes=4000" + (",event_ids" if len(clients) % 2 else "")
        async with service.create(BODY, x_emulator_behavior=wish) as live:
            told.name = live.id
            while (event := await live.next()) is not None:
                told.events.append(event)
                told.moments.append(monotonic())


async def _lost(database_url: str, client: Told) -> int:
    """How many of the last events are not in the log; all others must be there as they were told."""
    if not client.events:
        return 0
    key = ids.from_text(client.name)
    assert key is not None
    async with open_store(database_url) as opened:
        logged = await opened.store.events.all(key)
        page = await opened.store.events.after(key, 0)
        assert page is not None
        ended = page.ended
    assert [event.seq for event in logged] == list(range(1, len(logged) + 1))
    both = min(len(logged), len(client.events))
    assert [event_ids.text(event.seq) for event in logged[:both]] == [
        event["event_id"] for event in client.events[:both]
    ]
    if client.events[-1]["event_type"] == "interaction.completed":
        # Its end was told, so all of it is committed.
        assert ended
        assert len(logged) == len(client.events)
    return len(client.events) - both


async def _resume(database_url: str, upstream: Emulated, clients: list[Told], lost: list[int]) -> None:
    """After a new start every stream goes on behind any event of the log, and comes to its end."""
    database = Database(database_url)
    rows = {row["id"]: row for row in await database.rows()}
    await database.close()
    for client in clients:
        row = rows.get(ids.from_text(client.name) or b"")
        assert row is None or row["status"] in ("in_progress", "completed")
    # As if the time had passed in which the process would have given a sign of life.
    await query(database_url, "UPDATE leases SET due_at = 1 WHERE kind = 'process'")
    async with replicas(1, database_url, upstream.url, **HASTY) as (service,):
        for client, count in zip(clients, lost, strict=True):
            row = rows.get(ids.from_text(client.name) or b"")
            if row is None or row["upstream_id"] is None:
                continue
            whole = await service.finished(client.name)
            async with service.attach(client.name) as again:
                events = (await again.rest()).events
            seen = len(client.events) - count
            assert events[:seen] == client.events[:seen]
            if seen:
                async with service.attach(client.name, client.events[seen - 1]["event_id"]) as resumed:
                    rest = await resumed.rest()
                assert rest.events == events[seen:]
            known = {event["event_id"]: event for event in events}
            for event in client.events[seen:]:
                # An id that was lost is the same event's again, or is refused.
                if event["event_id"] in known:
                    assert known[event["event_id"]] == event
                else:
                    assert await service.refused(client.name, event["event_id"]) == 400
            assert events[-1]["event_type"] == "interaction.completed"
            assert whole["status"] == "completed"
            text = "".join(event["delta"].get("text", "") for event in events if "delta" in event)
            assert text == whole["steps"][-1]["content"][0]["text"]
