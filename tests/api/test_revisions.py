"""Which generation a caller speaks, and that it is answered in it (contract 1.4, 4.5 and 9.2)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway
from tests.support.replies import Json, Reply
from tests.support.upstreams import Emulated

OLD_SDK = {"user-agent": "google-genai-sdk/1.75.0 gl-python/3.11.7"}
NEW_SDK = {"user-agent": "google-genai-sdk/3.4.0 gl-python/3.11.7"}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def ask(gateway: Gateway, headers: dict[str, str], content: Any = "Hello", **members: Any) -> Reply:
    reply = await gateway.post({"model": MODEL, "input": content, **members}, **headers)
    assert reply.status == 200, reply.raw
    return reply


def generation(body: Json) -> str:
    """In which form an interaction is told."""
    told = ("steps" in body, "outputs" in body)
    return {(True, False): "steps", (False, True): "legacy", (True, True): "either"}[told]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "either"),
        ({"user-agent": "curl/8.9"}, "either"),
        (STEPS, "steps"),
        (LEGACY, "legacy"),
        (OLD_SDK, "legacy"),
        (NEW_SDK, "steps"),
        ({"x-goog-api-client": "google-genai-sdk/1.55.0 gl-node/v20"}, "legacy"),
        ({"x-goog-api-client": "google-genai-sdk/2.32.0 gl-node/v20"}, "steps"),
        ({**OLD_SDK, **STEPS}, "steps"),
        ({**NEW_SDK, **LEGACY}, "legacy"),
        ({"api-revision": "nonsense"}, "either"),
    ],
    ids=str,
)
async def test_the_generation_is_told_by_headers(
    gateway: Gateway, headers: dict[str, str], expected: str
) -> None:
    made = await ask(gateway, headers)
    assert generation(made.body) == expected
    assert generation((await gateway.got(made.id, headers=headers)).body) == expected
    streamed = await gateway.stream(headers=headers)
    assert (streamed.types[0] == "interaction.start") == (expected == "legacy")
    told = await gateway.events(made.id, headers=headers)
    assert (told.types[0] == "interaction.start") == (expected == "legacy")
    assert ("outputs" in told.final) == ("outputs" in streamed.final) == (expected != "steps")


@pytest.mark.parametrize(
    "members",
    [
        {"input": [{"role": "user", "content": "Hello"}]},
        {"response_mime_type": "application/json", "response_format": {"type": "object"}},
    ],
    ids=["turns", "mime type"],
)
async def test_the_generation_is_told_by_the_body(gateway: Gateway, members: Json) -> None:
    made = await gateway.post({"model": MODEL, "input": "Hello", **members})
    assert made.status == 200, made.raw
    assert generation(made.body) == "legacy"


async def test_upstream_sees_todays_schema_only(gateway: Gateway, upstream: Emulated) -> None:
    turns = [
        {"role": "user", "content": "One apple"},
        {"role": "model", "content": [{"type": "text", "text": "Yes."}]},
        {"role": "user", "content": "Two pears"},
    ]
    made = await ask(
        gateway,
        OLD_SDK,
        turns,
        response_mime_type="application/json",
        response_format={"type": "object", "properties": {"summary": {"type": "string"}}},
        generation_config={"thinking_summaries": "THINKING_SUMMARIES_AUTO"},
        response_modalities=["TEXT"],
    )
    (sent,) = upstream.creates
    assert sent["input"] == [
        {"type": "user_input", "content": [{"type": "text", "text": "One apple"}]},
        {"type": "model_output", "content": [{"type": "text", "text": "Yes."}]},
        {"type": "user_input", "content": [{"type": "text", "text": "Two pears"}]},
    ]
    assert sent["response_format"]["type"] == "text"
    assert sent["response_format"]["mime_type"] == "application/json"
    assert sent["generation_config"] == {"thinking_summaries": "auto"}
    assert sent["response_modalities"] == ["text"]
    (seen,) = upstream.requests
    assert seen["headers"]["api-revision"] == "2026-05-20"
    assert "google-genai-sdk" not in seen["headers"]["user-agent"]
    # What was stored is what the client sent.
    assert b'"role":"user"' in (await gateway.database.request(made.id) or b"")


async def test_a_legacy_body_has_everything_it_had(gateway: Gateway) -> None:
    made = await ask(gateway, LEGACY, generation_config={"thinking_level": "high"})
    body = made.body
    assert (body["object"], body["role"], body["status"]) == ("interaction", "model", "completed")
    assert [output["type"] for output in body["outputs"]] == ["thought", "text"]
    usage = body["usage"]
    assert usage["total_reasoning_tokens"] == usage["total_thought_tokens"] > 0
    assert made.id.startswith("int_")


async def test_a_legacy_stream_has_the_legacy_events(gateway: Gateway) -> None:
    streamed = await gateway.stream("Tell me", headers=LEGACY)
    kinds = list(dict.fromkeys(streamed.types))
    assert kinds == [
        "interaction.start",
        "interaction.status_update",
        "content.start",
        "content.delta",
        "content.stop",
        "interaction.complete",
    ]
    final = streamed.final
    assert final["role"] == "model"
    assert final["outputs"][-1]["text"] == streamed.text
    assert final["usage"]["total_reasoning_tokens"] == final["usage"]["total_thought_tokens"]
    assert final["id"] == streamed.id
    assert (await gateway.got(streamed.id, headers=LEGACY)).body["outputs"] == final["outputs"]


async def test_a_legacy_stream_is_resumed_by_its_own_events(gateway: Gateway) -> None:
    made = await gateway.ask("Tell me")
    whole = await gateway.events(made.id, headers=LEGACY)
    named = [place for place, event in enumerate(whole.events) if "event_id" in event]
    for place in (named[0], named[len(named) // 2], named[-2]):
        rest = await gateway.events(made.id, headers=LEGACY, last_event_id=whole.events[place]["event_id"])
        assert rest.events == whole.events[place + 1 :]


async def test_a_legacy_function_call_comes_whole(gateway: Gateway) -> None:
    streamed = await gateway.stream("The weather?", headers=LEGACY, tools=[WEATHER])
    (call,) = [
        event["delta"] for event in streamed.events if event.get("delta", {}).get("type") == "function_call"
    ]
    assert isinstance(call["arguments"], dict)
    assert call["name"] == "get_weather"
    assert streamed.final["status"] == "requires_action"
    output = streamed.final["outputs"][-1]
    assert (output["id"], output["arguments"]) == (call["id"], call["arguments"])
    result = {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": "sunny"}
    told = await ask(
        gateway,
        LEGACY,
        [{"role": "user", "content": [result]}],
        tools=[WEATHER],
        previous_interaction_id=streamed.id,
    )
    assert "sunny" in told.body["outputs"][-1]["text"]


async def test_a_chain_may_change_its_generation(gateway: Gateway) -> None:
    first = await ask(gateway, LEGACY, "One apple")
    second = await ask(gateway, STEPS, "Two", previous_interaction_id=first.id)
    third = await ask(gateway, LEGACY, "Three", previous_interaction_id=second.id)
    assert "One apple" in third.body["outputs"][-1]["text"]
    assert third.body["previous_interaction_id"] == second.id


async def test_flat_outputs_become_steps_for_those_who_read_steps(gateway: Gateway) -> None:
    made = await gateway.ask(fault="flat_outputs")
    assert made.text
    assert made.body["outputs"] == made.body["steps"][0]["content"]
    legacy = await gateway.got(made.id, headers=LEGACY)
    assert legacy.body["outputs"] == made.body["outputs"]


async def test_legacy_input_is_shown_to_legacy_callers(gateway: Gateway) -> None:
    turns = [{"role": "user", "content": "One apple"}]
    made = await ask(gateway, LEGACY, turns)
    read = await gateway.got(made.id, headers=LEGACY, include_input="true")
    assert read.body["input"] == turns
    assert "steps" not in read.body


async def test_errors_are_alike_for_all(gateway: Gateway) -> None:
    replies = [await gateway.post(b'{"model":"m"}', **headers) for headers in ({}, STEPS, LEGACY)]
    assert len({reply.raw for reply in replies}) == 1
    assert replies[0].error["message"] == "Missing input."
