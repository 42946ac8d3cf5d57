"""Recorded replay: what was answered once is answered again, and upstream hears nothing of it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from service.store import migrate
from service.store.timings import pack, unpack
from service.wire import ids
from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Json, Reply, Streamed
from tests.support.store import open_store
from tests.support.upstreams import Emulated

RECORDED = {"x-replay": "recorded; pace=none"}
WEATHER = {"type": "function", "name": "get_weather", "description": "The weather."}


async def played(gateway: Gateway, content: Any = "Hello", **members: Any) -> Reply:
    reply = await gateway.request(
        "POST", "/v1beta/interactions", headers=RECORDED, data=body(content, members)
    )
    assert reply.status == 200, reply.raw
    assert reply.headers["x-replay"] == "recorded"
    return reply


def body(content: Any, members: Json) -> bytes:
    return orjson.dumps({"model": MODEL, "input": content, **members})


async def test_a_unary_answer_is_given_again_without_upstream(gateway: Gateway, upstream: Emulated) -> None:
    asked = await gateway.ask("What is tea?", generation_config={"temperature": 1})
    upstream.clear()
    again = await played(gateway, "What is tea?", generation_config={"temperature": 1.0})
    assert again.body == asked.body
    assert again.headers["x-interaction-id"] == asked.id
    assert upstream.requests == []
    assert await gateway.database.count() == 1


async def test_how_an_answer_is_delivered_does_not_change_what_is_asked(
    gateway: Gateway, upstream: Emulated
) -> None:
    asked = await gateway.ask("Once")
    upstream.clear()
    for members in ({"store": False}, {"background": True}, {"agent": None}):
        assert (await played(gateway, "Once", **members)).id == asked.id
    parts = [{"type": "user_input", "content": [{"type": "text", "text": "Once"}]}]
    assert (await played(gateway, parts, model=f"gemini/{MODEL}")).id == asked.id
    assert upstream.requests == []


async def test_what_was_never_asked_is_an_error_that_says_so(gateway: Gateway, upstream: Emulated) -> None:
    await gateway.ask("Known")
    upstream.clear()
    for content, members in (("Unknown", {}), ("Known", {"system_instruction": "Be brief."})):
        reply = await gateway.request(
            "POST", "/v1beta/interactions", headers=RECORDED, data=body(content, members)
        )
        assert (reply.status, reply.error["code"]) == (424, "not_recorded")
        assert "x-replay: recorded" in reply.error["message"]
        assert "Send it once without that header, then again. What failed" in reply.error["message"]
    assert upstream.requests == []


async def test_a_failure_is_no_recording(gateway: Gateway) -> None:
    await gateway.refused(429, "Too much", fault="status;code=429")
    reply = await gateway.request("POST", "/v1beta/interactions", headers=RECORDED, data=body("Too much", {}))
    assert reply.status == 424


async def test_every_end_that_upstream_gave_is_a_recording(gateway: Gateway, upstream: Emulated) -> None:
    for wish, status in (
        ("continuation", "requires_continuation"),
        ("budget_exceeded", "budget_exceeded"),
        ("incomplete", "incomplete"),
    ):
        asked = await gateway.ask(f"One: {wish}", wish=wish)
        streamed = await gateway.stream(f"Many: {wish}", wish=wish)
        assert asked.body["status"] == status
        upstream.clear()
        assert (await played(gateway, f"One: {wish}")).body == asked.body
        again = await gateway.stream(f"Many: {wish}", headers=RECORDED)
        assert (again.raw, again.headers["x-interaction-id"]) == (streamed.raw, streamed.id)
        assert (await played(gateway, f"Many: {wish}")).body["status"] == status
        assert upstream.requests == []


async def test_an_answer_in_parts_is_played_again_part_by_part(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("A long story", wish="continuation;hops=2")
    going_on = {"continuation_token": first.body["continuation_token"]}
    second = await gateway.ask(None, previous_interaction_id=first.id, **going_on)
    assert second.body["status"] == "completed"
    upstream.clear()
    one = await played(gateway, "A long story")
    two = await played(gateway, None, previous_interaction_id=one.id, **going_on)
    assert [one.body, two.body] == [first.body, second.body]
    assert upstream.requests == []


async def test_what_was_cancelled_is_no_recording(gateway: Gateway) -> None:
    asked = await gateway.ask("Too long", background=True, wish="zombie")
    cancelled = await gateway.request("POST", f"/v1beta/interactions/{asked.id}/cancel")
    assert cancelled.body["status"] == "cancelled"
    reply = await gateway.request("POST", "/v1beta/interactions", headers=RECORDED, data=body("Too long", {}))
    assert reply.status == 424


async def test_the_ids_of_what_tools_upstream_did_do_not_change_what_is_asked(
    gateway: Gateway, upstream: Emulated
) -> None:
    tools: dict[str, Any] = {"tools": [{"type": "google_search"}, {"type": "code_execution"}]}
    first = await gateway.ask("Find it", **tools)
    assert {"google_search_call", "code_execution_result"} <= {step["type"] for step in first.steps}
    history = [{"type": "user_input", "content": "Find it"}, *first.steps]
    told = await gateway.ask([*history, {"type": "user_input", "content": "And?"}], **tools)
    upstream.clear()
    renamed = [
        {**step, **{name: f"other {step[name]}" for name in ("id", "call_id") if name in step}}
        for step in history
    ]
    assert renamed != history
    again = await played(gateway, [*renamed, {"type": "user_input", "content": "And?"}], **tools)
    assert again.body == told.body
    assert upstream.requests == []


async def test_the_models_that_may_stand_in_do_not_change_what_is_asked(gateway: Gateway) -> None:
    asked = await gateway.ask("Hello", fallbacks=["gemini-2.5-pro"])
    assert (await played(gateway, "Hello")).id == asked.id
    assert (await played(gateway, "Hello", fallbacks=["gemini-flash"])).id == asked.id


async def test_digests_of_a_version_before_are_made_anew(gateway: Gateway) -> None:
    members: dict[str, Any] = {"fallbacks": ["gemini-2.5-pro"]}
    asked = await gateway.ask("Kept", **members)
    following = await gateway.ask("On", previous_interaction_id=asked.id)
    url = gateway.database.url
    await migrate.downgrade(url, "0016")
    key = ids.from_text(asked.id)
    assert key is not None
    async with open_store(url) as opened:
        # So that version had stored the first, and not come to the second.
        await opened.store.recordings.add({key: bytes.fromhex("3aed13385f3e1185382d07560dbc3bb9")}, key, None)
    await migrate.upgrade(url)
    for given in ({}, members):
        assert (await played(gateway, "Kept", **given)).id == asked.id
    assert (await played(gateway, "On", previous_interaction_id=asked.id)).id == following.id


async def test_a_deleted_interaction_answers_nothing(gateway: Gateway) -> None:
    asked = await gateway.ask("Gone soon")
    await played(gateway, "Gone soon")
    await gateway.delete(asked.id)
    reply = await gateway.request(
        "POST", "/v1beta/interactions", headers=RECORDED, data=body("Gone soon", {})
    )
    assert reply.status == 424


@pytest.mark.parametrize("headers", [STEPS, LEGACY, {}])
async def test_a_stream_is_given_again_event_for_event(
    gateway: Gateway, upstream: Emulated, headers: dict[str, str]
) -> None:
    first = await gateway.stream("Tell me", headers=headers, wish="story")
    upstream.clear()
    for pace in ("recorded", "recorded; pace=none", "Recorded;pace=recorded"):
        again = await gateway.stream("Tell me", headers={**headers, "x-replay": pace})
        assert again.events == first.events
        assert again.raw == first.raw
        assert again.headers["x-interaction-id"] == first.id
    assert upstream.requests == []


async def test_a_unary_recording_is_streamed_as_it_is_by_get(gateway: Gateway) -> None:
    asked = await gateway.ask("Whole")
    streamed = await gateway.stream("Whole", headers=RECORDED)
    assert streamed.events == (await gateway.events(asked.id)).events
    # Whoever wants a stream gets the one that was streamed; of several, the first.
    live = await gateway.stream("Whole")
    assert live.id != asked.id
    await gateway.stream("Whole")
    await gateway.ask("Whole")
    assert (await gateway.stream("Whole", headers=RECORDED)).events == live.events
    assert (await played(gateway, "Whole")).id == asked.id


async def test_events_come_at_the_pace_at_which_they_came(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=0.03)
    gateway = await start_gateway(upstream)
    loop = asyncio.get_running_loop()

    async def seconds(**headers: str) -> tuple[float, Streamed]:
        begun = loop.time()
        streamed = await gateway.stream("In time", headers={"x-replay": headers["pace"]} if headers else {})
        return loop.time() - begun, streamed

    upstream.clock.advance(0)
    _, first = await seconds()
    paced, again = await seconds(pace="recorded")
    at_once, same = await seconds(pace="recorded; pace=none")
    assert first.events == again.events == same.events
    # What a busy machine adds to either does not change which one waits.
    for _ in range(5):
        if paced > at_once:
            break
        paced, at_once = (await seconds(pace="recorded"))[0], (await seconds(pace="recorded; pace=none"))[0]
    assert paced > at_once


async def test_a_chain_is_played_again_link_by_link(gateway: Gateway, upstream: Emulated) -> None:
    tools: dict[str, Any] = {"tools": [WEATHER]}
    first = await gateway.ask("Weather in Oslo?", **tools)
    (call,) = [step for step in first.steps if step["type"] == "function_call"]
    result = {"type": "function_result", "call_id": call["id"], "name": "get_weather", "result": "rain"}
    second = await gateway.ask([result], previous_interaction_id=first.id, **tools)
    third = await gateway.ask("Thanks", previous_interaction_id=second.id)
    upstream.clear()
    one = await played(gateway, "Weather in Oslo?", **tools)
    two = await played(gateway, [result], previous_interaction_id=one.id, **tools)
    three = await played(gateway, "Thanks", previous_interaction_id=two.id)
    assert [one.body, two.body, three.body] == [first.body, second.body, third.body]
    assert upstream.requests == []


async def test_a_follow_up_is_found_whichever_time_it_was_asked(gateway: Gateway) -> None:
    """The same beginning, recorded twice, and a follow-up to the first time only, under other ids of its calls."""
    tools: dict[str, Any] = {"tools": [WEATHER]}
    answers = []
    for _ in range(2):
        first = await gateway.ask("Weather in Rome?", **tools)
        (call,) = [step for step in first.steps if step["type"] == "function_call"]
        result = {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": "sun"}
        answers.append((first, result))
    (first, result), (second, other) = answers
    follow_up = await gateway.ask([result], previous_interaction_id=first.id, **tools)
    assert (await played(gateway, "Weather in Rome?", **tools)).id == first.id
    assert (await played(gateway, [other], previous_interaction_id=second.id, **tools)).id == follow_up.id


async def test_a_legacy_request_finds_what_a_new_one_recorded(gateway: Gateway) -> None:
    turns = [{"type": "user_input", "content": [{"type": "text", "text": "Hi"}]}]
    asked = await gateway.ask(turns)
    legacy = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert (await played(gateway, legacy)).id == asked.id


async def test_another_projects_recordings_answer_nobody(gateway: Gateway) -> None:
    asked = await gateway.ask("Mine")
    await gateway.database.give_away(asked.id)
    reply = await gateway.request("POST", "/v1beta/interactions", headers=RECORDED, data=body("Mine", {}))
    assert reply.status == 424


async def test_a_project_can_be_given_nothing_else(start_gateway: StartGateway, upstream: Emulated) -> None:
    live = await start_gateway(upstream)
    asked = await live.ask("By policy")
    for names in (("default",), ("*",)):
        offline = await start_gateway(upstream, recorded_projects=names)
        upstream.clear()
        assert (await offline.ask("By policy")).id == asked.id
        refused = await offline.create("Against it")
        assert (refused.status, "general_settings.recorded_projects" in refused.error["message"]) == (
            424,
            True,
        )
        assert "Record it in another one, and import it from there." in refused.error["message"]
        replay = await offline.request("POST", f"/api/interactions/{asked.id}/replay", data=b"{}")
        assert (replay.status, replay.error["code"]) == (400, "failed_precondition")
        assert "'general_settings.recorded_projects'" in replay.error["message"]
        assert upstream.requests == []
    other = await start_gateway(upstream, recorded_projects=("another",))
    assert (await other.ask("By policy")).id != asked.id


async def test_a_header_that_says_something_else_is_refused(gateway: Gateway) -> None:
    for value in ("live", "recorded; pace=2", "recorded pace=none"):
        reply = await gateway.post({"model": MODEL, "input": "Hello"}, x_replay=value)
        assert (reply.status, reply.error["code"]) == (400, "invalid_request")
        assert "'recorded; pace=none'" in reply.error["message"]


def test_times_are_packed_and_unpacked() -> None:
    pauses = [0, 1, 127, 128, 20_000, 3_600_000, 0]
    assert unpack(pack(pauses)) == pauses
    assert len(pack([5] * 100)) == 100
