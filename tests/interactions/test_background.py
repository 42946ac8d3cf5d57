"""Background interactions: polled from upstream until they end, from then on the store's alone; cancel."""

from __future__ import annotations

import asyncio

from service.store.records import USAGE_FINAL, USAGE_NONE
from tests.interactions.conversations import WEATHER, assert_quotes, result_of
from tests.support.gateway import LEGACY, MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.upstreams import Emulated

AGENT = "deep-research-preview-04-2026"
#: Queued for one hour of the emulator's clock, running for another.
SLOW = "background;queued=3600;running=3600"


async def test_a_run_is_followed_from_queued_to_its_end(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask("Take your time", background=True, wish=SLOW)
    assert made.body["status"] == "queued"
    assert (await gateway.got(made.id)).body["status"] == "queued"
    assert (await gateway.database.row(made.id))["status"] == "queued"
    upstream.clock.advance(4000)
    running = await gateway.got(made.id)
    assert (running.body["status"], running.id) == ("in_progress", made.id)
    row = await gateway.database.row(made.id)
    assert (row["status"], row["completed_at"], row["usage_state"]) == ("in_progress", None, USAGE_NONE)
    upstream.clock.advance(4000)
    ended = await gateway.got(made.id)
    assert ended.body["status"] == "completed"
    assert "Take your time" in ended.text
    row = await gateway.database.row(made.id)
    assert (row["status"], row["usage_state"]) == ("completed", USAGE_FINAL)
    assert row["total_tokens"] == ended.body["usage"]["total_tokens"]
    assert row["completed_at"] is not None


async def test_upstream_is_asked_until_the_end_and_never_again(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask(background=True)
    assert upstream.calls("GET") == []
    upstream.clock.advance(100)
    ended = await gateway.got(made.id)
    assert len(upstream.calls("GET")) == 1
    rows = await gateway.database.rows()
    await upstream.close()
    assert (await gateway.got(made.id)).body == ended.body
    assert (await gateway.events(made.id)).text == ended.text
    assert await gateway.database.rows() == rows


async def test_polling_from_many_sides_counts_usage_once(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask(background=True)
    upstream.clock.advance(100)
    replies = await asyncio.gather(*(gateway.got(made.id) for _ in range(8)))
    assert len({reply.raw for reply in replies}) == 1
    (row,) = await gateway.database.rows()
    assert row["total_tokens"] == replies[0].body["usage"]["total_tokens"]


async def test_a_404_right_after_create_does_not_mean_loss(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask(background=True, fault="not_found_after_create;gets=2")
    for _ in range(2):
        assert (await gateway.got(made.id)).body["status"] == "queued"
    upstream.clock.advance(100)
    assert (await gateway.got(made.id)).body["status"] == "completed"


async def test_the_stores_last_word_holds_while_upstream_cannot_be_asked(
    gateway: Gateway, upstream: Emulated
) -> None:
    made = await gateway.ask(background=True)
    upstream.fault("status;code=503", method="GET")
    assert (await gateway.got(made.id)).body["status"] == "queued"
    upstream.fault("reset_after", method="GET")
    assert (await gateway.got(made.id)).body["status"] == "queued"
    upstream.fault("html;code=200", method="GET")
    assert (await gateway.got(made.id)).body["status"] == "queued"
    await upstream.close()
    assert (await gateway.got(made.id)).body["status"] == "queued"


async def test_a_late_answer_to_a_poll_does_not_undo_the_end(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask("Take your time", background=True, wish=SLOW)
    upstream.fault("trickle;bytes=32;seconds=0.01", method="GET")
    async with asyncio.TaskGroup() as group, gateway.database.held():
        # Something is being written, so that what comes now is written together afterwards.
        group.create_task(gateway.ask("In between"))
        early = group.create_task(gateway.got(made.id))
        await eventually(lambda: has_polled(upstream, 1))
        upstream.clock.advance(10_000)
        late = group.create_task(gateway.got(made.id))
        # The answer that upstream gave first arrives last.
        await asyncio.sleep(1.0)
    assert early.result().body["status"] in ("queued", "completed")
    assert late.result().body["status"] == "completed"
    await upstream.close()
    read = await gateway.got(made.id)
    assert read.body == late.result().body
    assert (await gateway.database.row(made.id))["total_tokens"] == read.body["usage"]["total_tokens"]


async def has_polled(upstream: Emulated, times: int) -> bool:
    return len(upstream.calls("GET")) >= times


async def test_an_agent_works_in_the_background(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask("The history of TPUs", agent=AGENT, background=True)
    assert made.body["agent"] == AGENT
    assert "model" not in made.body
    row = await gateway.database.row(made.id)
    assert (row["agent"], row["model_requested"], row["background"]) == (AGENT, None, True)
    upstream.clock.advance(100)
    ended = await gateway.got(made.id)
    assert ended.body["status"] == "completed"
    assert "The history of TPUs" in ended.text
    # A model goes on with what the agent found.
    follow_up = await gateway.ask("Shorter", previous_interaction_id=made.id)
    assert_quotes(follow_up, "The history of TPUs", "Shorter")


async def test_a_failed_run_is_recorded_as_failed(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask(background=True, wish="failed;code=api_error;message=It broke")
    upstream.clock.advance(100)
    ended = await gateway.got(made.id)
    assert ended.body["status"] == "failed"
    row = await gateway.database.row(made.id)
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


async def test_a_background_stream_that_upstream_cuts_is_not_the_end_of_its_run(
    gateway: Gateway, upstream: Emulated
) -> None:
    async with gateway.live("Slowly", background=True, wish=SLOW) as live:
        await live.next()
        # Upstream cuts every stream after 600 seconds (contract 4.6).
        upstream.clock.advance(700)
        assert (await live.rest()).broken
    assert (await gateway.got(live.id)).body["status"] == "queued"
    assert (await gateway.database.row(live.id))["completed_at"] is None
    upstream.clock.advance(10_000)
    ended = await gateway.got(live.id)
    assert ended.body["status"] == "completed"
    assert "Slowly" in ended.text
    assert (await gateway.events(live.id)).text == ended.text


async def test_the_events_of_a_run_that_nobody_reads_come_with_its_end(
    gateway: Gateway, upstream: Emulated
) -> None:
    made = await gateway.ask("Take your time", background=True, wish=SLOW)
    early = await gateway.get(made.id, stream="true")
    assert (early.status, early.error["code"]) == (400, "failed_precondition")
    upstream.clock.advance(10_000)
    assert "Take your time" in (await gateway.events(made.id)).text


async def test_legacy_callers_are_told_in_progress_for_queued(gateway: Gateway) -> None:
    made = await gateway.ask(background=True, wish=SLOW)
    read = await gateway.got(made.id, headers=LEGACY)
    assert read.body["status"] == "in_progress"


async def test_outputs_hold_only_what_the_model_made(gateway: Gateway, upstream: Emulated) -> None:
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
    ended = await other.got(made.id)
    assert ended.body["status"] == "completed"
    assert (await other.database.row(made.id))["status"] == "completed"


async def test_background_work_must_be_stored(gateway: Gateway, upstream: Emulated) -> None:
    reply = await gateway.refused(400, background=True, store=False)
    assert "store=true is required" in reply.error["message"]
    assert upstream.requests == []
