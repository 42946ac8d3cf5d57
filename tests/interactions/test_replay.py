"""Replay: a stored request is sent again with the history that it had, and compared with what came of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from aiohttp import web

from service.wire import ids
from tests.interactions.conversations import WEATHER, assert_quotes, assert_rebuilt, result_of, talk
from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway, eventually
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json, Reply
from tests.support.store import query
from tests.support.upstreams import Emulated, deployment

AGENT: Json = {"agent": "deep-research-preview-04-2026", "background": True}


async def replay(gateway: Gateway, name: str, *, wish: str = "", **changes: Any) -> Reply:
    """Send a request again, which must be possible."""
    headers = {"x-emulator-behavior": wish} if wish else {}
    path = f"/api/interactions/{name}/replay"
    reply = await gateway.request("POST", path, headers=headers, data=orjson.dumps(changes))
    assert reply.status == 200, reply.raw
    return reply


async def again(gateway: Gateway, name: str, **changes: Any) -> tuple[Reply, Json]:
    """The interaction that a replay makes, and the comparison."""
    told = (await replay(gateway, name, **changes)).body
    made = await gateway.got(told["interaction"]["id"])
    assert told["replay_of"] == name
    assert made.id != name
    assert (await gateway.database.row(made.id))["replay_of"] == ids.from_text(name)
    return made, told["comparison"]


async def test_a_request_is_sent_again_as_it_was(gateway: Gateway, upstream: Emulated) -> None:
    original = await gateway.ask("Hello", generation_config={"temperature": 0.5})
    made, comparison = await again(gateway, original.id)
    assert upstream.creates[1] == upstream.creates[0]
    assert await gateway.database.request(made.id) == await gateway.database.request(original.id)
    assert made.text == original.text
    assert comparison["status"] == {"original": "completed", "replay": "completed", "same": True}
    assert comparison["text"] == {"same": True, "diff": ""}
    assert comparison["errors"]["same"]
    assert comparison["usage"]["original"]["total_tokens"] == original.body["usage"]["total_tokens"]
    assert set(comparison["usage"]["difference"].values()) <= {0, None}
    assert comparison["cost"]["original"] == comparison["cost"]["replay"] > 0
    assert comparison["cost"]["difference"] == 0
    assert comparison["latency"]["replay"]["total_ms"] >= 0


async def test_changes_are_merged_into_the_request(gateway: Gateway, upstream: Emulated) -> None:
    config = {"temperature": 0.5, "seed": 7, "thinking_level": "low"}
    original = await gateway.ask("Hello", system_instruction="Be brief.", generation_config=config)
    changes = {
        "model": "gemini-2.5-pro",
        "system_instruction": None,
        "temperature": 0,
        "generation_config": {"seed": None, "top_p": 0.5},
        "tools": [WEATHER],
    }
    made, comparison = await again(gateway, original.id, **changes)
    sent = upstream.creates[1]
    assert sent["generation_config"] == {"temperature": 0, "thinking_level": "low", "top_p": 0.5}
    assert (sent["model"], sent["tools"]) == ("gemini-2.5-pro", [WEATHER])
    assert "system_instruction" not in sent
    assert comparison["tool_calls"]["original"] == []
    assert [call["name"] for call in comparison["tool_calls"]["replay"]] == ["get_weather"]
    assert not comparison["tool_calls"]["same"]
    assert comparison["text"]["diff"].startswith(f"--- {original.id}\n+++ {made.id}\n@@")
    assert comparison["usage"]["difference"]["output_tokens"] != 0


async def test_history_is_as_it_was_then(gateway: Gateway, upstream: Emulated) -> None:
    first, second, third = await talk(gateway, "One apple", "Two pears", "Three plums")
    made, comparison = await again(gateway, second.id)
    assert_quotes(made, "One apple", "Two pears")
    assert upstream.creates[-1]["previous_interaction_id"] == first.upstream_id
    assert made.body["previous_interaction_id"] == first.id
    assert comparison["text"]["same"]
    upstream.forget()
    made, _ = await again(gateway, third.id)
    assert_quotes(made, "One apple", "Two pears", "Three plums")
    assert_rebuilt(upstream.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")
    # A replay can be followed, and sent again itself.
    fourth = await gateway.ask("Four figs", previous_interaction_id=made.id)
    assert_quotes(fourth, "One apple", "Two pears", "Three plums", "Four figs")
    assert (await again(gateway, made.id))[1]["text"]["same"]


async def test_what_followed_something_deleted_is_sent_again(gateway: Gateway, upstream: Emulated) -> None:
    first, second, third = await talk(gateway, "One apple", "Two pears", "Three plums")
    for gone in (first, second):
        await gateway.delete(gone.id)
    made, comparison = await again(gateway, third.id)
    assert_quotes(made, "One apple", "Two pears", "Three plums")
    assert_rebuilt(upstream.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")
    assert comparison["text"]["same"]
    # What is kept for it as well is neither readable nor open to anything else.
    for gone in (first, second):
        assert (await gateway.get(gone.id)).status == 404
    assert (await gateway.create(previous_interaction_id=second.id)).status == 404
    await gateway.delete(third.id)
    fourth = await gateway.ask("Four figs", previous_interaction_id=made.id)
    assert_quotes(fourth, "One apple", "Two pears", "Three plums", "Four figs")
    for last in (made, fourth):
        await gateway.delete(last.id)
    for gone in (first, second, third, made, fourth):
        assert await gateway.database.bodies(gone.id) == {}


@pytest.mark.parametrize("gone", [False, True])
async def test_tools_are_called_again(gateway: Gateway, upstream: Emulated, gone: bool) -> None:
    first = await gateway.ask("Weather in Oslo?", tools=[WEATHER])
    answered = await gateway.ask(
        [result_of(first, "rain")], tools=[WEATHER], previous_interaction_id=first.id
    )
    if gone:
        upstream.forget()
    made, comparison = await again(gateway, answered.id)
    assert "rain" in made.text
    assert comparison["text"]["same"]
    _, comparison = await again(gateway, first.id)
    assert comparison["tool_calls"]["same"]
    assert comparison["tool_calls"]["replay"][0]["name"] == "get_weather"


async def test_a_stream_is_streamed_again(gateway: Gateway, upstream: Emulated) -> None:
    original = await gateway.stream("Tell me", wish="story")
    told = (await replay(gateway, original.id, wish="story")).body
    made = told["interaction"]["id"]
    assert upstream.creates[1]["stream"] is True
    assert told["comparison"]["text"]["same"]
    assert [event["event_type"] for event in (await gateway.events(made)).events] == original.types
    assert (await gateway.database.row(made))["stream"]


async def test_a_background_run_is_waited_for(start_gateway: StartGateway, start_emulator: Any) -> None:
    upstream: Emulated = await start_emulator()
    gateway = await start_gateway(upstream)
    original = await gateway.ask("Take your time", background=True)
    upstream.clock.advance(100)
    await gateway.finished(original.id)
    running = (await replay(gateway, original.id, wait=0)).body
    assert running["interaction"]["status"] in ("queued", "in_progress")
    assert running["comparison"]["status"]["same"] is False
    upstream.clock.advance(100)
    name = running["interaction"]["id"]
    await gateway.finished(name)
    later = await gateway.request("GET", f"/api/interactions/{name}/comparison")
    assert later.body["status"]["same"]
    assert later.body["text"]["same"]


async def test_a_background_run_that_is_streamed_is_waited_for_no_longer(
    gateway: Gateway, upstream: Emulated
) -> None:
    async with gateway.live("Think long", background=True):
        (row,) = await gateway.database.rows()
    running = (await replay(gateway, ids.to_text(row["id"]), wait=0)).body
    assert running["interaction"]["status"] in ("queued", "in_progress")
    assert len(upstream.creates) == 2


async def test_an_agent_runs_again(gateway: Gateway, upstream: Emulated) -> None:
    original = await gateway.ask("Research tea", **AGENT)
    upstream.clock.advance(10_000)
    await gateway.finished(original.id)
    told = (await replay(gateway, original.id, wait=0)).body
    assert upstream.creates[1]["agent"] == AGENT["agent"]
    upstream.clock.advance(10_000)
    assert (await gateway.finished(told["interaction"]["id"])).body["status"] == "completed"


async def test_a_legacy_request_is_sent_again_in_its_generation(gateway: Gateway, upstream: Emulated) -> None:
    turns = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    original = await gateway.post({"model": MODEL, "input": turns}, api_revision=LEGACY["api-revision"])
    told = (await replay(gateway, original.body["id"])).body
    assert upstream.creates[1] == upstream.creates[0]
    assert told["interaction"]["outputs"]
    assert told["comparison"]["text"]["same"]


async def test_the_hops_of_a_continued_answer_are_sent_again(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("A long story", wish="continuation;hops=2")
    going_on = {"continuation_token": first.body["continuation_token"], "previous_interaction_id": first.id}
    second = await gateway.post({"model": MODEL, **going_on}, **STEPS)
    assert second.body["status"] == "completed"
    told = (await replay(gateway, first.id, wish="continuation;hops=2")).body
    assert told["comparison"]["status"]["replay"] == "requires_continuation"
    assert told["comparison"]["text"]["same"]
    sent = upstream.creates[1]
    made, comparison = await again(gateway, second.id)
    assert upstream.creates[-1] == sent
    assert comparison["text"]["same"]
    follow_up = await gateway.ask("And then?", previous_interaction_id=made.id)
    assert_quotes(follow_up, "A long story", "And then?")
    # Upstream goes on with nothing that it has lost, and says so.
    upstream.forget()
    told = (await replay(gateway, second.id)).body
    assert told["interaction"]["status"] == "failed"
    assert told["comparison"]["errors"]["replay"]["code"]


async def test_pictures_are_sent_again_after_their_files_have_died(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    serving = deployment(upstream, MODEL, retention=0.0, file_retention=0.0)
    gateway = await start_gateway(deployments=(serving,), keep_media=True)
    picture = {"type": "image", "uri": upstream.put_file(b"PNG" * 5_000), "mime_type": "image/png"}
    shown = [{"type": "text", "text": "Look"}, picture]
    first = await gateway.ask(shown)

    async def kept() -> bool:
        rows = await query(gateway.database.url, "SELECT count(*) FROM media")
        return [tuple(row) for row in rows] == [(1,)]

    await eventually(kept)
    second = await gateway.ask("And now?", previous_interaction_id=first.id)
    upstream.clock.advance(3 * 86_400)
    upstream.forget()
    for original in (first, second):
        _, comparison = await again(gateway, original.id)
        assert comparison["status"]["replay"] == "completed"
        content = upstream.creates[-1]["input"][0]["content"]
        assert "uri" not in content[1]
        assert content[1]["data"]


async def test_what_was_not_to_be_stored_can_be_sent_again(gateway: Gateway, upstream: Emulated) -> None:
    original = await gateway.ask("Leave no trace", store=False)
    told = (await replay(gateway, original.id)).body
    assert upstream.creates[1]["store"] is False
    assert told["comparison"]["text"]["same"]


async def test_a_replay_that_fails_is_a_comparison_as_well(gateway: Gateway, upstream: Emulated) -> None:
    original = await gateway.ask("Hello")
    upstream.fault("status;code=429")
    told = (await replay(gateway, original.id)).body
    assert told["interaction"]["status"] == "failed"
    assert told["comparison"]["status"] == {"original": "completed", "replay": "failed", "same": False}
    assert told["comparison"]["errors"]["replay"]["code"] == "rate_limit_exceeded"
    failed = told["interaction"]["id"]
    recovered = (await replay(gateway, failed)).body
    assert recovered["comparison"]["status"]["replay"] == "completed"


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ({"a": True}, {"a": 1}, False),
        ({"a": [0, {"b": 0}]}, {"a": [0, {"b": False}]}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": 1, "b": None}, {"a": 1}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": True, "b": [False, "x"]}, {"b": [False, "x"], "a": True}, True),
    ],
)
async def test_calls_are_the_same_when_their_arguments_are_in_json(
    start_gateway: StartGateway, start_scripted: StartScripted, before: Json, after: Json, same: bool
) -> None:
    arguments = iter((before, after))

    async def calling(request: web.Request) -> web.StreamResponse:
        call = {"type": "function_call", "id": "c", "name": "f", "arguments": next(arguments)}
        return web.json_response({"id": "v1_call", "status": "requires_action", "steps": [call]})

    gateway = await start_gateway(await start_scripted(calling))
    asked = await gateway.ask("Call it")
    _, comparison = await again(gateway, asked.id)
    assert comparison["tool_calls"]["same"] == same


async def test_without_a_comparison_if_none_is_wanted(gateway: Gateway) -> None:
    original = await gateway.ask("Hello")
    assert "comparison" not in (await replay(gateway, original.id, compare=False)).body


async def test_changes_that_cannot_be_are_refused(gateway: Gateway) -> None:
    original = await gateway.ask("Hello")
    refusals: list[tuple[Any, str]] = [
        ({"previous_interaction_id": "int_x"}, "previous_interaction_id"),
        ({"continuation_token": "t"}, "continuation_token"),
        ({"compare": "yes"}, "compare"),
        ({"wait": -1}, "wait"),
        ({"stream": "yes"}, "stream"),
        ([], "object"),
    ]
    for changes, named in refusals:
        path = f"/api/interactions/{original.id}/replay"
        reply = await gateway.request("POST", path, data=orjson.dumps(changes))
        assert (reply.status, reply.error["code"]) == (400, "invalid_request")
        assert named in reply.error["message"]
    assert await gateway.database.count() == 1


async def test_what_is_not_there_cannot_be_sent_again(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One")
    original = await gateway.ask("Original")
    failed = await gateway.refused(429, "Too much", fault="status;code=429", previous_interaction_id=first.id)
    lost = failed.headers["x-interaction-id"]
    foreign = await gateway.ask("Theirs")
    await gateway.database.give_away(foreign.id)
    await gateway.delete(first.id)
    upstream.clear()
    for name in (ids.to_text(ids.mint()), "v1_unknown", first.id, foreign.id, lost):
        reply = await gateway.request("POST", f"/api/interactions/{name}/replay", data=b"{}")
        assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert upstream.creates == []
    reply = await gateway.request("GET", f"/api/interactions/{original.id}/comparison")
    assert (reply.status, reply.error["code"]) == (400, "failed_precondition")
