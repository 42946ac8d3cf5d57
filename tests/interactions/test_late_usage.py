"""Usage is counted once, whatever mixture of answer, stream, poll and cancel it comes by (promise P5, contract 8)."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from service.store.records import USAGE_FINAL, USAGE_MISSING, USAGE_PARTIAL
from service.store.tables import RESPONSE_PAYLOAD
from service.wire import ids, sse
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartGateway, StartScripted
from tests.support.store import is_sqlite, literal, query
from tests.support.upstreams import Emulated

HASTY = {"poll_interval": 0.02, "poll_interval_max": 0.05, "usage_interval": 0.02, "claim_interval": 0.02}
SLOW = "background;queued=3600;running=3600"
#: What is made of a row behind the writes.
DERIVED = {"derived_state", "cost_nanos", "usage_detail", "series_id"}


@pytest.fixture
async def gateway(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    return await start_gateway(upstream, **HASTY)


async def is_final(gateway: Gateway, name: str) -> bool:
    return bool((await gateway.database.row(name))["usage_state"] == USAGE_FINAL)


@pytest.mark.parametrize("way", ["unary", "stream", "attached", "polled"])
async def test_usage_that_comes_late_is_fetched(
    start_gateway: StartGateway, upstream: Emulated, way: str
) -> None:
    streams = 0 if way == "polled" else 256
    gateway = await start_gateway(upstream, background_streams=streams, **HASTY)
    fault = "missing_usage;gets=2"
    match way:
        case "unary":
            name = (await gateway.ask("Tell me", fault=fault)).id
        case "stream":
            name = (await gateway.stream("Tell me", fault=fault)).id
        case _:
            name = (await gateway.ask("Tell me", background=True, fault=fault)).id
            upstream.clock.advance(100)
            await gateway.finished(name)
    await eventually(lambda: is_final(gateway, name))
    row = await gateway.database.row(name)
    read = await gateway.got(name)
    assert read.body["usage"]["total_tokens"] == row["total_tokens"] > 0
    asked = len(upstream.calls("GET"))
    await asyncio.sleep(0.2)
    # Once it is final, nobody asks any more.
    assert len(upstream.calls("GET")) == asked
    again = await gateway.database.row(name)
    assert {name: again[name] for name in row if name not in DERIVED} == {
        name: row[name] for name in row if name not in DERIVED
    }


async def test_usage_that_never_comes_is_not_asked_for_for_ever(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    hasty = HASTY | {"usage_interval": 0.0001}
    gateway = await start_gateway(upstream, **hasty)
    made = await gateway.ask("Tell me", fault="missing_usage;seconds=1000000")

    async def is_given_up() -> bool:
        return await gateway.database.notes("usage") == 0

    await eventually(is_given_up)
    assert 1 < len(upstream.calls("GET")) <= 8
    assert (await gateway.database.row(made.id))["usage_state"] == USAGE_MISSING


async def test_a_note_of_what_has_not_ended_waits_for_its_end(
    gateway: Gateway, upstream: Emulated, database_url: str
) -> None:
    """It was left by a process that has lost the interaction to another one, which may count on it."""
    made = await gateway.ask("Take your time", background=True, wish=SLOW)
    key = literal(database_url, ids.from_text(made.id) or b"")
    note = f"INSERT INTO leases (interaction_id, kind, due_at, tries) VALUES ({key}, 'usage', 0, 0)"
    await query(database_url, note)

    async def is_looked_at_again() -> bool:
        rows = await query(database_url, "SELECT tries FROM leases WHERE kind = 'usage'")
        return bool(rows[0][0] >= 2)

    await eventually(is_looked_at_again)


async def test_usage_of_a_damaged_response_is_not_asked_for_for_ever(
    start_gateway: StartGateway, upstream: Emulated, database_url: str
) -> None:
    gateway = await start_gateway(upstream, **HASTY | {"usage_interval": 0.005})
    await gateway.ask("Tell me", fault="missing_usage;seconds=1000000")
    damaged = "x'00'" if is_sqlite(database_url) else r"'\x00'"
    await query(database_url, f"UPDATE payloads SET body = {damaged} WHERE kind = {RESPONSE_PAYLOAD}")

    async def is_given_up() -> bool:
        return await gateway.database.notes("usage") == 0

    await eventually(is_given_up)


async def test_usage_is_settled_before_the_interaction_is_deleted(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(upstream, usage_interval=3600)
    made = await gateway.ask("Tell me", fault="missing_usage")
    assert (await gateway.database.row(made.id))["usage_state"] == USAGE_MISSING
    assert (await gateway.delete(made.id)).status == 200
    row = await gateway.database.row(made.id)
    assert row["usage_state"] == USAGE_FINAL
    assert row["total_tokens"] > 0
    assert row["usage_detail"] is not None
    assert [seen["method"] for seen in upstream.requests] == ["POST", "GET", "DELETE"]


@pytest.mark.parametrize("streams", [256, 0])
async def test_a_run_that_is_deleted_goes_on_and_its_usage_is_counted(
    start_gateway: StartGateway, upstream: Emulated, streams: int
) -> None:
    gateway = await start_gateway(upstream, background_streams=streams, **HASTY)
    made = await gateway.ask("A secret", background=True, wish=SLOW)
    assert (await gateway.delete(made.id)).status == 200
    assert (await gateway.get(made.id)).status == 404
    # A delete is no cancel, and upstream's copy is needed until it has told what the run has used.
    assert upstream.calls("DELETE") == []
    upstream.clock.advance(10_000)
    await eventually(lambda: is_final(gateway, made.id))

    async def is_gone() -> bool:
        return (await gateway.database.row(made.id))["upstream_gone_at"] is not None

    await eventually(is_gone)
    assert not upstream.holds(made.upstream_id)
    row = await gateway.database.row(made.id)
    assert row["total_tokens"] > 0
    assert await gateway.database.bodies(made.id) == {}
    assert await gateway.database.log(made.id) == []


async def test_what_a_cancelled_run_had_used_is_kept_and_marked(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    body = {"id": "v1_up", "object": "interaction", "model": "gemini-2.5-flash", "status": "in_progress"}
    cancelled = {**body, "status": "cancelled", "usage": {"total_tokens": 7, "total_input_tokens": 7}}

    async def script(request: web.Request) -> web.StreamResponse:
        return web.json_response(cancelled if request.path.endswith("/cancel") else body)

    gateway = await start_gateway(await start_scripted(script), background_streams=0, **HASTY)
    made = await gateway.ask(background=True)
    reply = await gateway.cancel(made.id)
    assert (reply.status, reply.body["status"]) == (200, "cancelled")
    row = await gateway.database.row(made.id)
    assert (row["usage_state"], row["input_tokens"], row["total_tokens"]) == (USAGE_PARTIAL, 7, 7)


@pytest.mark.parametrize("streams", [256, 0])
async def test_a_cancel_that_races_the_end_leaves_one_outcome(
    start_gateway: StartGateway, upstream: Emulated, streams: int
) -> None:
    gateway = await start_gateway(upstream, background_streams=streams, **HASTY)
    for _ in range(6):
        made = await gateway.ask(background=True, wish=SLOW)
        cancelling = asyncio.create_task(gateway.cancel(made.id))
        await asyncio.sleep(0)
        upstream.clock.advance(10_000)
        reply = await cancelling
        ended = await gateway.finished(made.id)
        row = await gateway.database.row(made.id)
        assert row["status"] == ended.body["status"]
        if reply.status == 200:
            assert reply.body["status"] == ended.body["status"]
        else:
            assert (reply.status, ended.body["status"]) == (400, "completed")
        assert (ended.body["status"] == "completed") == (row["usage_state"] == USAGE_FINAL)


async def test_upstreams_id_is_recorded_while_usage_is_asked_for(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()
    named = {"id": "v1_whole", "object": "interaction"}
    told = [
        {"event_type": "interaction.created", "interaction": {**named, "status": "in_progress"}},
        {"event_type": "interaction.completed", "interaction": {**named, "status": "completed"}},
    ]

    async def script(request: web.Request) -> web.Response:
        if request.method == "POST":
            # Head and events in one packet: all are there before the reader begins.
            return web.Response(body=b"".join(map(sse.frame, told)), content_type="text/event-stream")
        asked.set()
        await answered.wait()
        return web.json_response({**named, "status": "completed", "usage": {"total_tokens": 3}})

    gateway = await start_gateway(await start_scripted(script))

    async def is_known() -> bool:
        return [row["upstream_id"] for row in await gateway.database.rows()] == ["v1_whole"]

    streaming = asyncio.create_task(gateway.stream("Tell me"))
    await asyncio.wait_for(asked.wait(), 10)
    await eventually(is_known)
    answered.set()
    streamed = await streaming
    assert (await gateway.database.row(streamed.id))["total_tokens"] == 3
