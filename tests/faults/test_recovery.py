"""The service ends in every phase of an interaction: what another process makes of it is what there would have been."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from aiohttp import ClientError

from service.store.records import USAGE_FINAL, USAGE_MISSING
from tests.support.database import Database, Row
from tests.support.outliving import SLOW, WHOLE, StartReplica
from tests.support.reconciling import assert_reconciles
from tests.support.replicas import until
from tests.support.upstreams import Emulated

AGENT = "deep-research-preview-04-2026"


async def all_ended(database: Database) -> bool:
    return all(row["completed_at"] is not None for row in await database.rows())


async def inputs(database: Database) -> dict[str, Row]:
    """The rows by what was asked."""
    found = {}
    for row in await database.rows():
        request = await database.request_of_row(row)
        found[str(request["input"])] = row
    return found


@pytest.mark.parametrize("way", ["SIGTERM", "kill -9"])
@pytest.mark.parametrize("streams", [256, 0])
async def test_what_is_open_in_any_phase_is_finished_by_the_next_process(
    database: Database, upstream: Emulated, start_replica: StartReplica, way: str, streams: int
) -> None:
    # Who is alone on a file waits for no lease.
    settings = {"background_streams": streams, "lease_seconds": 3600.0 if database.is_sqlite else 1.0}
    first = await start_replica(**settings)
    unanswered = asyncio.create_task(first.create("unanswered", fault="latency;seconds=9999999999"))
    await until(lambda: _seen(upstream, 1))
    queued = await first.create("queued", background=True, wish=SLOW)
    streamed = await first.begin("streamed", background=True, wish=SLOW)
    upstream.clock.advance(4000)
    running = await first.create("running", background=True, wish="background;queued=0;running=3600")
    upstream.clock.advance(600)
    agent = await first.create("agent", agent=AGENT, background=True, wish=SLOW)
    ending = await first.create("ending", background=True, wish="background;queued=3600;running=1")
    foreground = await first.begin("foreground")
    await first.begin("unstored", store=False)
    upstream.clock.advance(200)
    await asyncio.sleep(0.3)
    await (first.stop() if way == "SIGTERM" else first.kill())
    unanswered.cancel()
    with suppress(asyncio.CancelledError, ClientError):
        await unanswered
    # While nobody looks, one run ends.
    upstream.clock.advance(3700)
    second = await start_replica(**settings)
    await until(lambda: _has_ended(database, "ending"))
    upstream.clock.advance(WHOLE)
    await until(lambda: all_ended(database))
    for made, text in (
        (queued["id"], "queued"),
        (streamed, "streamed"),
        (foreground, "foreground"),
        (running["id"], "running"),
        (agent["id"], "agent"),
        (ending["id"], "ending"),
    ):
        read = await second.got(made)
        assert read["status"] == "completed", (text, read)
        assert f'"{text}"' in str(read["steps"]), text
        events = await second.events(made)
        assert events.count(b"event: interaction.completed") == 1, (text, events)
        assert f'\\"{text}\\"'.encode() in events, text
    await assert_reconciles(database.url)
    await second.stop()
    rows = await inputs(database)
    for text in ("unanswered", "unstored"):
        lost = rows.pop(text)
        assert (lost["status"], lost["error_code"], lost["upstream_id"]) == ("failed", "interrupted", None)
        assert lost["usage_state"] == USAGE_MISSING
    assert {row["usage_state"] for row in rows.values()} == {USAGE_FINAL}
    assert all(row["total_tokens"] for row in rows.values())
    await assert_reconciles(database.url)
    # Nothing was sent twice, and nothing is left to do.
    assert sorted(body["input"] for body in upstream.creates) == sorted([*rows, "unanswered", "unstored"])
    assert not [line for line in [*first.log, *second.log] if "level=error" in line]


async def _seen(upstream: Emulated, creates: int) -> bool:
    return len(upstream.creates) >= creates


async def _has_ended(database: Database, text: str) -> bool:
    return (await inputs(database))[text]["completed_at"] is not None
