"""Background runs: followed to their end whether or not a client asks, from then on the store's alone; cancel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from service.store.records import USAGE_FINAL, USAGE_NONE
from tests.interactions.conversations import WEATHER, assert_quotes, result_of
from tests.support.gateway import LEGACY, MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.upstreams import Emulated, deployment, sse

AGENT = "deep-research-preview-04-2026"
#: Queued for one hour of the emulator's clock, running for another.
SLOW = "background;queued=3600;running=3600"


HASTY = {"poll_interval": 0.02, "poll_interval_max": 0.05}


@pytest.fixture
async def gateway(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service, which follows runs by upstream's streams."""
    return await start_gateway(upstream, **HASTY)


@pytest.fixture(params=["attached", "polled"])
async def either(request: pytest.FixtureRequest, start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service, which follows runs in the one way or the other."""
    streams = 256 if request.param == "attached" else 0
    return await start_gateway(upstream, background_streams=streams, **HASTY)


@pytest.fixture
async def lazy(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service, which asks about runs when a client does and hardly ever by itself."""
    return await start_gateway(upstream, background_streams=0, poll_interval=1000, poll_interval_max=1000)


async def has_status(gateway: Gateway, name: str, status: str) -> bool:
    return bool((await gateway.database.row(name))["status"] == status)


async def test_a_run_is_followed_from_queued_to_its_end_though_no_client_asks(
    either: Gateway, upstream: Emulated
) -> None:
    made = await either.ask("Take your time", background=True, wish=SLOW)
    assert made.body["status"] == "queued"
    assert (await either.got(made.id)).body["status"] == "queued"
    assert (await either.database.row(made.id))["status"] == "queued"
    upstream.clock.advance(4000)
    await eventually(lambda: has_status(either, made.id, "in_progress"))
    running = await either.got(made.id)
    assert (running.body["status"], running.id) == ("in_progress", made.id)
    row = await either.database.row(made.id)
    assert (row["completed_at"], row["usage_state"]) == (None, USAGE_NONE)
    upstream.clock.advance(4000)
    await eventually(lambda: has_status(either, made.id, "completed"))
    row = (await either.database.told())[made.id]
    # From here on the store answers alone.
    await upstream.close()
    ended = await either.got(made.id)
    assert "Take your time" in ended.text
    assert (row["usage_state"], row["total_tokens"]) == (USAGE_FINAL, ended.body["usage"]["total_tokens"])
    assert (await either.events(made.id)).text == ended.text
    assert (await either.database.told())[made.id] == row


@pytest.mark.parametrize("status", ["failed", "incomplete", "budget_exceeded", "requires_action"])
async def test_every_way_to_end_is_stored_though_no_client_asks(
    either: Gateway, upstream: Emulated, status: str
) -> None:
    members: dict[str, Any] = {"tools": [WEATHER]} if status == "requires_action" else {}
    wish = "" if members else status
    made = await either.ask("The weather?", background=True, wish=wish, **members)
    upstream.clock.advance(100)
    await eventually(lambda: has_status(either, made.id, status))
    row = await either.database.row(made.id)
    assert row["completed_at"] is not None
    assert (await either.got(made.id)).body["status"] == status
    assert len(upstream.creates) == 1


async def test_a_client_that_asks_is_told_upstreams_latest_word(lazy: Gateway, upstream: Emulated) -> None:
    made = await lazy.ask(background=True, wish=SLOW)
    assert upstream.calls("GET") == []
    upstream.clock.advance(4000)
    assert (await lazy.got(made.id)).body["status"] == "in_progress"
    upstream.clock.advance(4000)
    ended = await lazy.got(made.id)
    assert ended.body["status"] == "completed"
    assert len(upstream.calls("GET")) == 2
    rows = await lazy.database.told()
    await upstream.close()
    assert (await lazy.got(made.id)).body == ended.body
    assert (await lazy.events(made.id)).text == ended.text
    assert await lazy.database.told() == rows


async def test_polling_from_many_sides_counts_usage_once(lazy: Gateway, upstream: Emulated) -> None:
    made = await lazy.ask(background=True)
    upstream.clock.advance(100)
    replies = await asyncio.gather(*(lazy.got(made.id) for _ in range(8)))
    assert len({reply.raw for reply in replies}) == 1
    (row,) = await lazy.database.rows()
    assert row["total_tokens"] == replies[0].body["usage"]["total_tokens"]
    # Those who ask at the same time share the answer.
    assert len(upstream.calls("GET")) == 1


@pytest.mark.parametrize("streams", [256, 0], ids=["attached", "polled"])
async def test_a_404_right_after_create_does_not_mean_loss(
    start_gateway: StartGateway, upstream: Emulated, streams: int
) -> None:
    # A machine that is slow may take longer than tests otherwise give upstream to settle.
    either = await start_gateway(upstream, background_streams=streams, **HASTY, upstream_settle=5.0)
    made = await either.ask(background=True, fault="not_found_after_create;gets=2")
    assert (await either.got(made.id)).body["status"] == "queued"
    upstream.clock.advance(100)
    assert (await either.finished(made.id)).body["status"] == "completed"


async def test_a_404_that_stays_is_a_loss(either: Gateway) -> None:
    made = await either.ask(background=True, fault="not_found_after_create;seconds=100000")
    read = await either.finished(made.id)
    assert (read.body["status"], read.body["errors"][0]["code"]) == ("failed", "not_found")
    row = await either.database.row(made.id)
    assert (row["status"], row["error_code"]) == ("failed", "not_found")


async def test_a_zombie_gets_a_verdict_and_keeps_what_was_received(
    start_gateway: StartGateway, start_emulator: StartEmulator
) -> None:
    upstream = await start_emulator(stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream, background_timeout=0.4, **HASTY)
    made = await gateway.ask(background=True, wish="zombie")
    streamed = await gateway.stream(background=True, wish="zombie")
    assert streamed.events[-1]["error"]["code"] == "deadline_exceeded"
    for name in (made.id, streamed.id):
        read = await gateway.finished(name)
        assert read.body["status"] == "failed"
        assert read.body["errors"][0]["code"] == "deadline_exceeded"
        assert "background_timeout" in read.body["errors"][0]["message"]
        assert (await gateway.events(name)).events[-1]["error"]["code"] == "deadline_exceeded"
    # Upstream need not go on with what nobody waits for.
    assert len([seen for seen in upstream.calls("POST") if seen["path"].endswith("/cancel")]) == 2


async def test_a_deployment_has_a_time_limit_of_its_own(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    hasty = deployment(upstream, MODEL, background_timeout=0.2)
    gateway = await start_gateway(deployments=(hasty,), background_streams=0, **HASTY)
    made = await gateway.ask(background=True, wish="zombie")
    assert (await gateway.finished(made.id)).body["errors"][0]["code"] == "deadline_exceeded"


async def test_the_stores_last_word_holds_while_upstream_cannot_be_asked(
    lazy: Gateway, upstream: Emulated
) -> None:
    made = await lazy.ask(background=True)
    for fault in ("status;code=503", "reset_after", "html;code=200"):
        upstream.fault(fault, method="GET")
        assert (await lazy.got(made.id)).body["status"] == "queued"
    await upstream.close()
    assert (await lazy.got(made.id)).body["status"] == "queued"


async def test_upstream_that_cannot_be_asked_for_a_while_loses_nothing(
    either: Gateway, upstream: Emulated
) -> None:
    upstream.fault("status;code=503", method="GET", count=3)
    made = await either.ask(background=True)
    upstream.fault("reset_after", method="GET", count=3)
    upstream.clock.advance(100)
    assert (await either.finished(made.id)).body["status"] == "completed"


async def test_an_agent_works_in_the_background(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask("The history of TPUs", agent=AGENT, background=True)
    assert made.body["agent"] == AGENT
    assert "model" not in made.body
    row = await gateway.database.row(made.id)
    assert (row["agent"], row["model_requested"], row["background"]) == (AGENT, None, True)
    upstream.clock.advance(100)
    ended = await gateway.finished(made.id)
    assert ended.body["status"] == "completed"
    assert "The history of TPUs" in ended.text
    # A model goes on with what the agent found.
    follow_up = await gateway.ask("Shorter", previous_interaction_id=made.id)
    assert_quotes(follow_up, "The history of TPUs", "Shorter")


async def test_a_failed_run_is_recorded_as_failed(either: Gateway, upstream: Emulated) -> None:
    made = await either.ask(background=True, wish="failed;code=api_error;message=It broke")
    upstream.clock.advance(100)
    ended = await either.finished(made.id)
    assert ended.body["status"] == "failed"
    row = await either.database.row(made.id)
    assert (row["status"], row["error_code"], row["error_message"]) == ("failed", "api_error", "It broke")


async def test_a_background_stream_is_followed_by_two(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream)
    async with gateway.live("Slowly", background=True, wish=SLOW) as live:
        created = await live.next()
        assert created is not None
        assert created["interaction"]["id"] == live.id
        async with gateway.attached(live.id) as second:
            upstream.clock.advance(10_000)
            first_view, second_view = await asyncio.gather(live.rest(), second.rest())
    assert first_view.events == second_view.events
    assert first_view.final["status"] == "completed"
    assert (await gateway.got(live.id)).text == first_view.text


async def test_a_background_stream_that_upstream_cuts_goes_on(gateway: Gateway, upstream: Emulated) -> None:
    async with gateway.live("Slowly", background=True, wish=SLOW) as live:
        await live.next()
        # Upstream cuts every stream after 600 seconds (contract 4.6).
        for _ in range(4):
            upstream.clock.advance(700)
            await asyncio.sleep(0.05)
        upstream.clock.advance(10_000)
        streamed = await live.rest()
    assert streamed.final["status"] == "completed"
    ended = await gateway.got(live.id)
    assert "Slowly" in ended.text
    assert (await gateway.events(live.id)).text == ended.text == streamed.text
    assert len(upstream.creates) == 1


async def test_a_run_that_was_begun_without_a_stream_is_listened_to_while_it_runs(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream, **HASTY)
    made = await gateway.ask("Take your time", background=True, wish=SLOW)
    async with gateway.attached(made.id) as live:
        created = await live.next()
        assert created is not None
        assert created["interaction"]["id"] == made.id
        upstream.clock.advance(10_000)
        streamed = await live.rest()
    assert streamed.final["status"] == "completed"
    assert "Take your time" in streamed.text
    cursor = streamed.events[2]["event_id"]
    resumed = await gateway.events(made.id, last_event_id=cursor)
    assert resumed.events == streamed.events[3:]


async def test_the_events_of_a_run_that_is_only_asked_about_come_with_its_end(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(upstream, background_streams=0, **HASTY)
    made = await gateway.ask("Take your time", background=True, wish=SLOW)
    listening = asyncio.create_task(gateway.events(made.id))
    await asyncio.sleep(0.1)
    upstream.clock.advance(10_000)
    assert "Take your time" in (await listening).text
    assert "Take your time" in (await gateway.events(made.id)).text


async def test_legacy_callers_are_told_in_progress_for_queued(gateway: Gateway) -> None:
    made = await gateway.ask(background=True, wish=SLOW)
    read = await gateway.got(made.id, headers=LEGACY)
    assert read.body["status"] == "in_progress"


async def test_outputs_hold_only_what_the_model_made(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await start_gateway(upstream, background_streams=0, **HASTY)
    asked = await gateway.ask("The weather?", tools=[WEATHER])
    result = result_of(asked, "sunny")
    whole = [{"type": "user_input", "content": "The weather?"}, *asked.steps, result]
    for members in (
        {"input": [result], "previous_interaction_id": asked.id},
        {"input": whole},
        {
            "input": [
                {"role": "user", "content": "The weather?"},
                {"role": "model", "content": "Sunny."},
                {"role": "user", "content": "And now?"},
            ]
        },
    ):
        running = await gateway.post({"model": MODEL, "background": True, **members}, **LEGACY)
        assert running.status == 200, running.raw
        upstream.clock.advance(100)
        # Upstream's timeline shows the input first; callers of today's generation see it.
        shown = (await gateway.finished(running.id)).body["steps"]
        outputs = (await gateway.got(running.id, headers=LEGACY)).body["outputs"]
        assert shown[0]["type"] in ("function_result", "user_input")
        assert [item["type"] for item in outputs] == ["thought", "text"]
        events = await gateway.events(running.id)
        told = [event["step"]["type"] for event in events.events if event["event_type"] == "step.start"]
        assert told == ["thought", "model_output"]


async def test_a_running_interaction_is_cancelled(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask(background=True, wish=SLOW)
    reply = await gateway.cancel(made.id)
    assert reply.status == 200
    assert (reply.id, reply.body["status"]) == (made.id, "cancelled")
    row = await gateway.database.row(made.id)
    assert (row["status"], row["upstream_id"]) == ("cancelled", made.upstream_id)
    assert row["completed_at"] is not None
    await upstream.close()
    assert (await gateway.got(made.id)).body["status"] == "cancelled"


async def test_upstreams_id_cancels_too(gateway: Gateway) -> None:
    made = await gateway.ask(background=True, wish=SLOW)
    assert (await gateway.cancel(made.upstream_id)).id == made.id


async def test_no_stream_is_taken_up_while_its_run_is_being_cancelled(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    cancelling, streamed = asyncio.Event(), asyncio.Event()
    told = {"id": "v1_a", "status": "in_progress"}

    async def script(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/cancel"):
            cancelling.set()
            async with asyncio.timeout(20):
                await streamed.wait()
            await asyncio.sleep(0.02)
            return web.json_response({**told, "status": "cancelled"})
        if "stream" not in request.query:
            return web.json_response(told)
        async with asyncio.timeout(20):
            await cancelling.wait()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse({"event_type": "interaction.created", "interaction": told}, done=False))
        streamed.set()
        await asyncio.sleep(3600)
        return response

    gateway = await start_gateway(await start_scripted(script), **HASTY)
    made = await gateway.ask(background=True)
    assert (await gateway.cancel(made.id)).body["status"] == "cancelled"
    # By now whatever had been read would be in the log, which the fixtures hold against the record.
    await asyncio.sleep(0.2)
    assert (await gateway.events(made.id)).final["status"] == "cancelled"


async def test_a_cancelled_stream_ends_as_cancelled(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream)
    async with gateway.live(background=True, wish=SLOW) as live:
        await live.next()
        upstream.clock.advance(5000)
        await live.until("step.start")
        assert (await gateway.cancel(live.id)).body["status"] == "cancelled"
        streamed = await live.rest()
    assert streamed.final["status"] == "cancelled"
    assert (await gateway.got(live.id)).body["status"] == "cancelled"
    assert (await gateway.database.row(live.id))["status"] == "cancelled"


async def test_what_has_ended_cannot_be_cancelled(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask()
    reply = await gateway.cancel(made.id)
    assert (reply.status, reply.error["code"]) == (400, "failed_precondition")
    assert "completed" in reply.error["message"]
    assert upstream.calls("POST") == []
    assert (await gateway.got(made.id)).body == made.body


async def test_an_unknown_interaction_cannot_be_cancelled(gateway: Gateway) -> None:
    assert (await gateway.cancel("int_unknown")).error["code"] == "not_found"


async def test_a_refused_cancel_changes_nothing(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask(background=True, wish=SLOW)
    upstream.fault("status;code=500;message=Not now")
    reply = await gateway.cancel(made.id)
    assert (reply.status, reply.error["message"]) == (500, "Not now")
    assert (await gateway.got(made.id)).body["status"] == "queued"
    assert (await gateway.cancel(made.id)).status == 200


async def test_a_run_is_found_again_by_another_process(
    gateway: Gateway, upstream: Emulated, start_gateway: StartGateway
) -> None:
    made = await gateway.ask("Take your time", background=True)
    await gateway.stop()
    other = await start_gateway(upstream)
    upstream.clock.advance(100)
    ended = await other.finished(made.id)
    assert ended.body["status"] == "completed"
    assert (await other.database.row(made.id))["status"] == "completed"


async def test_background_work_must_be_stored(gateway: Gateway, upstream: Emulated) -> None:
    reply = await gateway.refused(400, background=True, store=False)
    assert "store=true is required" in reply.error["message"]
    assert upstream.requests == []


async def test_an_agent_that_needs_the_background_is_refused_as_upstream_refuses_it(gateway: Gateway) -> None:
    reply = await gateway.refused(400, agent=AGENT)
    assert "background" in reply.error["message"]
