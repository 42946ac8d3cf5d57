"""The official Python client against the emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google import genai
from google.genai import types
from google.genai._gaos.lib.compat_errors import (
    APIConnectionError,
    BadRequestError,
    NotFoundError,
)

from tests.emulator.client import MODEL, Start, Upstream, streamed_text

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


def client_of(upstream: Upstream) -> Any:
    return genai.Client(api_key="key-a", http_options=types.HttpOptions(base_url=upstream.url)).aio


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[Any]:
    client = client_of(upstream)
    yield client.interactions
    await client.aclose()


async def dumped(stream: Any) -> list[dict[str, Any]]:
    return [event.model_dump(exclude_none=True) async for event in stream]


async def test_create_and_get(client: Any) -> None:
    made = await client.create(model=MODEL, input="Hello from the client")
    assert made.status == "completed"
    assert "Hello from the client" in made.output_text
    assert made.usage.total_input_tokens > 0
    got = await client.get(made.id)
    assert got.output_text == made.output_text


async def test_a_chain(client: Any) -> None:
    first = await client.create(model=MODEL, input="My name is Ada.")
    second = await client.create(model=MODEL, input="Who am I?", previous_interaction_id=first.id)
    assert "My name is Ada." in second.output_text


async def test_a_stream(client: Any) -> None:
    events = await dumped(await client.create(model=MODEL, input="Hello", stream=True))
    kinds = [event["event_type"] for event in events]
    assert kinds[:2] == ["interaction.created", "interaction.status_update"]
    assert kinds[-1] == "interaction.completed"
    assert sum(event.get("delta", {}).get("type") == "text" for event in events) >= 5
    assert "Hello" in streamed_text(events)
    assert events[-1]["interaction"]["usage"]["total_tokens"] > 0


async def test_a_stream_of_what_is_not_stored(client: Any) -> None:
    events = await dumped(await client.create(model=MODEL, input="Hello", stream=True, store=False))
    assert events[-1]["interaction"]["status"] == "completed"


async def test_a_stored_stream_is_read_from_any_event(client: Any) -> None:
    made = await client.create(model=MODEL, input="Hello")
    whole = await dumped(await client.get(made.id, stream=True))
    assert streamed_text(whole) == made.output_text
    rest = await dumped(await client.get(made.id, stream=True, last_event_id=whole[3]["event_id"]))
    assert rest == whole[4:]


async def test_the_function_loop_stateful(client: Any) -> None:
    asked = await client.create(model=MODEL, input="Weather in Oslo?", tools=[WEATHER])
    assert asked.status == "requires_action"
    (call,) = [step for step in asked.steps if step.type == "function_call"]
    result = {"type": "function_result", "call_id": call.id, "name": call.name, "result": "sunny in Oslo"}
    told = await client.create(model=MODEL, input=[result], tools=[WEATHER], previous_interaction_id=asked.id)
    assert told.status == "completed"
    assert "sunny in Oslo" in told.output_text


async def test_the_function_loop_stateless(client: Any) -> None:
    history: list[Any] = [{"type": "user_input", "content": [{"type": "text", "text": "Weather in Oslo?"}]}]
    asked = await client.create(model=MODEL, input=history, tools=[WEATHER], store=False)
    history += [step.model_dump(exclude_none=True) for step in asked.steps]
    call = history[-1]
    history.append(
        {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": {"sky": "clear"}}
    )
    told = await client.create(model=MODEL, input=history, tools=[WEATHER], store=False)
    assert "clear" in told.output_text


async def test_cancel_and_delete(client: Any, upstream: Upstream) -> None:
    running = await client.create(model=MODEL, input="Take your time", background=True)
    assert running.status == "queued"
    assert (await client.cancel(running.id)).status == "cancelled"
    assert (await client.get(running.id)).status == "cancelled"
    await client.delete(running.id)
    with pytest.raises(NotFoundError):
        await client.get(running.id)


async def test_refusals_raise(client: Any) -> None:
    with pytest.raises(BadRequestError, match="not supported for 'type'"):
        await client.create(model=MODEL, input="Hi", tools=[{"type": "no_such_tool"}])
    with pytest.raises(NotFoundError):
        await client.create(model=MODEL, input="Hi", previous_interaction_id="v1_nothing")


async def test_a_quota_error_is_tried_again(client: Any, upstream: Upstream) -> None:
    await upstream.admin("POST", "faults", {"fault": "status;code=429;retry_after=0"})
    assert (await client.create(model=MODEL, input="Hi")).status == "completed"
    assert (await upstream.admin("GET", "requests?count=true"))["count"] == 2


async def test_a_cut_stream_raises(client: Any) -> None:
    wish = {"x-emulator-fault": "cut;after=4"}
    stream = aiter(await client.create(model=MODEL, input="Hi", stream=True, extra_headers=wish))
    for _ in range(4):
        await anext(stream)
    with pytest.raises(APIConnectionError):
        await anext(stream)


async def test_continuation_is_followed(client: Any) -> None:
    wish = {"x-emulator-behavior": "continuation;hops=3"}
    whole = await client.create(model=MODEL, input="Hello")
    parts = await client.create(model=MODEL, input="Hello", extra_headers=wish)
    assert parts.status == "completed"
    said = "".join(part.text for step in parts.steps if step.type == "model_output" for part in step.content)
    assert said == whole.output_text


async def test_continuation_is_followed_without_a_store(client: Any) -> None:
    wish = {"x-emulator-behavior": "continuation;hops=2"}
    events = await dumped(
        await client.create(model=MODEL, input="Hello", stream=True, store=False, extra_headers=wish)
    )
    whole = await client.create(model=MODEL, input="Hello")
    assert streamed_text(events) == whole.output_text
    assert [event["event_type"] for event in events].count("interaction.completed") == 2


async def test_a_checkpoint_survives_a_cut(client: Any) -> None:
    wish = {"x-emulator-behavior": "checkpoint;after=8", "x-emulator-fault": "cut;after=9"}
    events = await dumped(await client.create(model=MODEL, input="Hello", stream=True, extra_headers=wish))
    whole = await client.create(model=MODEL, input="Hello")
    assert streamed_text(events) == whole.output_text


async def test_a_background_stream_follows_the_clock(start: Start) -> None:
    upstream = await start(queued_seconds=0.01, background_seconds=0.05)
    client = client_of(upstream)
    events = await dumped(
        await client.interactions.create(
            agent="deep-research-preview-04-2026", input="TPUs", background=True, stream=True
        )
    )
    assert events[-1]["interaction"]["status"] == "completed"
    assert all("event_id" in event for event in events)
    await client.aclose()
