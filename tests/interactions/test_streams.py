"""Streams: events as they happen, whoever listens; the terminal event after the commit (promises P1 and P3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import ClientSession

from service.store.records import USAGE_FINAL, USAGE_MISSING
from tests.emulator.client import events_in
from tests.support.gateway import MODEL, STEPS, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Json, Live
from tests.support.upstreams import KEY, Emulated

#: Seconds of silence that show that an event is not on its way.
SILENCE = 0.2
WHOLE = 1e6


@pytest.fixture
async def slow(start_emulator: StartEmulator) -> Emulated:
    """An emulator whose streams go on only when its clock is moved: one event a minute."""
    return await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)


@pytest.fixture
async def patient(slow: Emulated, start_gateway: StartGateway) -> Gateway:
    """The service before that emulator."""
    return await start_gateway(slow)


async def is_silent(live: Live) -> bool:
    """Whether no event is on its way; takes one if there is."""
    try:
        assert await live.next(SILENCE) is not None
    except TimeoutError:
        return True
    return False


def without_ids(events: list[Json]) -> list[Json]:
    """Events as far as they must be the same from upstream and from the service."""
    told = []
    for event in events:
        event = {name: value for name, value in event.items() if name != "interaction_id"}
        if "interaction" in event:
            known = ("id", "created", "updated")
            event["interaction"] = {
                name: value for name, value in event["interaction"].items() if name not in known
            }
        told.append(event)
    return told


async def test_events_are_upstreams_own(gateway: Gateway, upstream: Emulated) -> None:
    members: dict[str, Any] = {"tools": [{"type": "google_search"}, {"type": "code_execution"}]}
    streamed = await gateway.stream("Tell me", headers=STEPS, wish="story,event_ids", **members)
    async with ClientSession(upstream.url, headers={"x-goog-api-key": KEY}) as session:
        direct = await session.post(
            "/v1/interactions",
            json={"model": MODEL, "input": "Tell me", "stream": True, **members},
            headers={"x-emulator-behavior": "story,event_ids"},
        )
        told = events_in(await direct.read())
    assert without_ids(streamed.events) == without_ids(told)
    assert streamed.done
    # An SDK of this API crashes on comments that follow a block with an `id:` line (contract 9.3).
    assert b"\nid:" not in streamed.raw


async def test_events_come_when_they_happen(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly", headers=STEPS) as live:
        assert [(await live.next() or {}).get("event_type") for _ in range(2)] == [
            "interaction.created",
            "interaction.status_update",
        ]
        assert await is_silent(live)
        slow.clock.advance(90)
        assert (await live.next() or {}).get("event_type") == "step.start"
        assert await is_silent(live)
        slow.clock.advance(WHOLE)
        streamed = await live.rest()
    assert streamed.final["status"] == "completed"


async def test_a_running_stream_is_read_as_running(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly") as live:
        await live.next()
        read = await patient.got(live.id)
        assert (read.id, read.body["status"], read.body["steps"]) == (live.id, "in_progress", [])
        slow.clock.advance(WHOLE)
        await live.rest()
    assert (await patient.got(live.id)).body["status"] == "completed"


async def test_a_client_that_leaves_finds_everything_later(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly") as live:
        await live.next()
        live.leave()
    slow.clock.advance(WHOLE)
    whole = await patient.finished(live.id)
    assert whole.body["status"] == "completed"
    assert 'said: "Slowly"' in whole.text
    row = await patient.database.row(live.id)
    assert (row["usage_state"], row["total_tokens"]) == (USAGE_FINAL, whole.body["usage"]["total_tokens"])
    assert len(slow.creates) == 1


async def test_a_client_that_leaves_before_the_answer_finds_it_later(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator()
    upstream.hold()
    gateway = await start_gateway(upstream)
    impatient = asyncio.create_task(gateway.ask("Unary"))
    await eventually(lambda: has_row(gateway))
    impatient.cancel()
    (row,) = await gateway.database.rows()
    assert row["status"] == "in_progress"
    upstream.release()

    async def completed() -> bool:
        (row,) = await gateway.database.rows()
        return bool(row["status"] == "completed")

    await eventually(completed)
    (row,) = await gateway.database.rows()
    assert (await gateway.got(row["upstream_id"])).text


async def has_row(gateway: Gateway) -> bool:
    return await gateway.database.count() > 0


async def test_a_second_listener_gets_everything_from_the_first_event_on(
    patient: Gateway, slow: Emulated
) -> None:
    async with patient.live("Slowly", headers=STEPS) as first:
        await first.next()
        slow.clock.advance(90)
        await first.until("step.start")
        async with patient.attached(first.id, headers=STEPS) as second:
            await second.until("step.start")
            assert await is_silent(second)
            slow.clock.advance(WHOLE)
            told = await asyncio.gather(first.rest(), second.rest())
    assert told[0].events == told[1].events
    assert told[0].final["status"] == told[1].final["status"] == "completed"
    assert len(slow.requests) == 1


async def test_listeners_of_both_generations_follow_one_stream(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly", headers=STEPS) as first:
        await first.next()
        async with patient.attached(first.id, headers={"api-revision": "2026-05-07"}) as second:
            slow.clock.advance(WHOLE)
            steps, legacy = await asyncio.gather(first.rest(), second.rest())
    assert steps.text == legacy.text
    assert legacy.types[0] == "interaction.start"
    assert legacy.final["outputs"]


async def test_one_listeners_leaving_disturbs_nobody(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly") as first:
        await first.next()
        async with patient.attached(first.id) as second:
            await second.next()
            first.leave()
            slow.clock.advance(WHOLE)
            streamed = await second.rest()
    assert streamed.final["status"] == "completed"


async def test_the_terminal_event_comes_after_the_commit(gateway: Gateway) -> None:
    async def follow(number: int) -> None:
        async with gateway.live(f"Stream {number}") as live:
            event = await live.until("interaction.completed")
            # Another connection sees what is committed and nothing else.
            row = await gateway.database.row(live.id)
            assert row["status"] == "completed"
            assert row["total_tokens"] == event["interaction"]["usage"]["total_tokens"]
            assert (await gateway.database.response(live.id) or b"").count(f"Stream {number}".encode())

    await asyncio.gather(*(follow(number) for number in range(10)))


async def test_the_terminal_event_waits_for_the_commit(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly", headers=STEPS) as live:
        await live.next()

        async def noted() -> bool:
            return (await patient.database.row(live.id))["upstream_id"] is not None

        await eventually(noted)
        async with patient.database.held():
            slow.clock.advance(WHOLE)
            await live.until("step.stop")
            # There is more to come than that.
            await live.next()
            while True:
                assert live.events[-1]["event_type"].startswith("step.")
                if await is_silent(live):
                    break
        streamed = await live.rest()
    assert streamed.final["status"] == "completed"


async def test_upstreams_id_is_recorded_at_the_first_event(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly") as live:
        await live.next()

        async def noted() -> bool:
            row = await patient.database.row(live.id)
            return row["upstream_id"] is not None and slow.holds(row["upstream_id"])

        await eventually(noted)
        row = await patient.database.row(live.id)
        assert (row["status"], row["completed_at"]) == ("in_progress", None)
        slow.clock.advance(WHOLE)
        await live.rest()


async def test_usage_that_the_end_of_a_stream_leaves_out_is_fetched(gateway: Gateway) -> None:
    streamed = await gateway.stream(fault="missing_usage")
    usage = (await gateway.got(streamed.id)).body["usage"]
    assert streamed.final["usage"] == usage
    row = await gateway.database.row(streamed.id)
    assert (row["usage_state"], row["total_tokens"]) == (USAGE_FINAL, usage["total_tokens"])


async def test_usage_that_upstream_leaves_out_is_marked_missing(gateway: Gateway) -> None:
    reply = await gateway.create(fault="missing_usage")
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert row["status"] == "completed"
    assert (row["usage_state"], row["total_tokens"], row["input_tokens"]) == (USAGE_MISSING, None, None)
    assert "usage" not in (await gateway.got(reply.headers["x-interaction-id"])).body


async def test_a_listener_that_does_not_read_holds_up_nobody(gateway: Gateway) -> None:
    wish = f"length;bytes={16 * 1024 * 1024}"
    async with gateway.live("At length", wish=wish) as idle:
        whole = await gateway.finished(idle.id)
        assert len(whole.text) > 16 * 1024 * 1024
        streamed = await idle.rest()
    assert streamed.text == whole.text
    assert streamed.final["status"] == "completed"


async def test_many_streams_run_side_by_side(gateway: Gateway) -> None:
    streams = await asyncio.gather(*(gateway.stream(f"Stream {number}") for number in range(30)))
    for number, streamed in enumerate(streams):
        assert f'"Stream {number}"' in streamed.text
        assert (await gateway.got(streamed.id)).text == streamed.text
    assert len({streamed.id for streamed in streams}) == 30
