"""Background runs follow the clock."""

from __future__ import annotations

import asyncio

import pytest

from tests.emulator.client import MODEL, Start, Upstream, events_in, step_types, streamed_text, text_of

DR = "deep-research-preview-04-2026"


@pytest.fixture
async def upstream(start: Start) -> Upstream:
    return await start(queued_seconds=100, background_seconds=200)


async def test_a_run_is_queued_then_in_progress_then_completed(upstream: Upstream) -> None:
    made = await upstream.create("Work", background=True)
    assert made["status"] == "queued"
    assert "usage" not in made
    assert "steps" not in made
    upstream.clock.advance(150)
    running = await upstream.get(made["id"])
    assert running["status"] == "in_progress"
    assert "usage" not in running
    upstream.clock.advance(151)
    done = await upstream.get(made["id"])
    assert done["status"] == "completed"
    assert done["updated"] > done["created"]
    assert done["usage"]["total_tokens"] > 0
    assert "Work" in text_of(done)


async def test_steps_appear_while_the_run_goes_on(upstream: Upstream) -> None:
    name = (await upstream.create("Work", background=True))["id"]
    upstream.clock.advance(180)
    assert step_types(await upstream.get(name)) == ["user_input", "thought"]


async def test_a_run_can_call_functions(upstream: Upstream) -> None:
    tools = [{"type": "function", "name": "f"}]
    name = (await upstream.create("Work", background=True, tools=tools))["id"]
    upstream.clock.advance(301)
    assert (await upstream.get(name))["status"] == "requires_action"


async def test_a_stream_of_a_run_waits_for_the_clock(upstream: Upstream) -> None:
    response = await upstream.post({"model": MODEL, "input": "Work", "background": True, "stream": True})
    reading = asyncio.create_task(response.read())
    for _ in range(5):
        await asyncio.sleep(0.01)
        assert not reading.done()
        upstream.clock.advance(50)
    await asyncio.sleep(0.01)
    upstream.clock.advance(51)
    events = events_in(await reading)
    assert events[0]["interaction"]["status"] == "queued"
    assert events[-1]["interaction"]["status"] == "completed"
    assert len({event["event_id"] for event in events}) == len(events)


async def test_a_run_is_streamed_from_any_event(upstream: Upstream) -> None:
    name = (await upstream.create("Work", background=True))["id"]
    upstream.clock.advance(301)
    whole = await upstream.get_stream(name)
    assert "Work" in streamed_text(whole)
    assert await upstream.get_stream(name, last_event_id=whole[6]["event_id"]) == whole[7:]


async def test_a_cancelled_run_stays_cancelled(upstream: Upstream) -> None:
    name = (await upstream.create("Work", background=True))["id"]
    upstream.clock.advance(180)
    response = await upstream.session.post(f"/v1/interactions/{name}/cancel")
    assert (await response.json())["status"] == "cancelled"
    upstream.clock.advance(1000)
    stored = await upstream.get(name)
    assert stored["status"] == "cancelled"
    assert step_types(stored) == ["user_input", "thought"]
    assert "usage" not in stored
    assert (await upstream.get_stream(name))[-1]["interaction"]["status"] == "cancelled"
    await upstream.refused(previous_interaction_id=name)


async def test_cancelling_ends_a_stream_that_is_being_read(upstream: Upstream) -> None:
    name = (await upstream.create("Work", background=True))["id"]
    reading = asyncio.create_task(upstream.get_stream(name))
    await asyncio.sleep(0.05)
    await upstream.session.post(f"/v1/interactions/{name}/cancel")
    events = await reading
    assert [event["event_type"] for event in events] == [
        "interaction.created",
        "interaction.status_update",
        "interaction.completed",
    ]
    assert events[-1]["interaction"]["status"] == "cancelled"


async def test_only_running_background_interactions_can_be_cancelled(upstream: Upstream) -> None:
    foreground = (await upstream.create("Work"))["id"]
    finished = (await upstream.create("Work", background=True))["id"]
    upstream.clock.advance(301)
    for name in (foreground, finished):
        response = await upstream.session.post(f"/v1/interactions/{name}/cancel")
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "failed_precondition"
    assert (await upstream.session.post("/v1/interactions/v1_x/cancel")).status == 404


async def test_research_works_with_tools_and_sends_usage_late(upstream: Upstream) -> None:
    config = {"type": "deep-research", "thinking_summaries": "auto"}
    name = (await upstream.create("TPUs", agent=DR, background=True, agent_config=config))["id"]
    upstream.clock.advance(301)
    stored = await upstream.get(name)
    assert stored["agent"] == DR
    assert "model" not in stored
    assert "google_search_result" in step_types(stored)
    assert stored["usage"]["total_tokens"] > 0
    assert "usage" not in (await upstream.get_stream(name))[-1]["interaction"]


async def test_a_model_goes_on_from_an_agent(upstream: Upstream) -> None:
    name = (await upstream.create("TPUs", agent=DR, background=True))["id"]
    upstream.clock.advance(301)
    assert "TPUs" in text_of(await upstream.create("Shorter", previous_interaction_id=name))


async def test_a_sandbox_has_an_id_and_a_budget(upstream: Upstream) -> None:
    agent = "antigravity-preview-09-2026"
    made = await upstream.create("List", agent=agent, environment="remote")
    assert made["environment_id"].startswith("env_")
    assert "function_result" in step_types(made)
    again = await upstream.create("List", agent=agent, environment=made["environment_id"])
    assert again["environment_id"] == made["environment_id"]
    config = {"type": "antigravity", "max_total_tokens": 10}
    broke = await upstream.create("List", agent=agent, environment="remote", agent_config=config)
    assert broke["status"] == "budget_exceeded"


async def test_webhooks_are_echoed(upstream: Upstream) -> None:
    hooks = {"uris": ["https://example.com/hook"], "user_metadata": {"job": "42"}}
    made = await upstream.create("Work", background=True, webhook_config=hooks)
    assert made["webhook_config"] == hooks


async def test_a_zombie_never_ends(upstream: Upstream) -> None:
    name = (await upstream.create("Work", background=True, wish="zombie"))["id"]
    upstream.clock.advance(86_400)
    assert (await upstream.get(name))["status"] == "in_progress"
    assert (await upstream.session.post(f"/v1/interactions/{name}/cancel")).status == 200


async def test_a_run_can_have_times_of_its_own(upstream: Upstream) -> None:
    made = await upstream.create("Work", background=True, wish="background;queued=0;running=10")
    assert made["status"] == "in_progress"
    upstream.clock.advance(11)
    assert (await upstream.get(made["id"]))["status"] == "completed"


async def test_an_emulator_stops_though_a_stream_waits(start: Start) -> None:
    upstream = await start(queued_seconds=3600)
    name = (await upstream.create("Work", background=True))["id"]
    response = await upstream.session.get(f"/v1/interactions/{name}?stream=true")
    assert response.status == 200
    response.close()
