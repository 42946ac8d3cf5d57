"""Official clients call functions (contract 5.3); the service or the client keeps the history (5.5, 5.6)."""

from __future__ import annotations

from tests.contract.official import Client
from tests.contract.reading import (
    MODEL,
    WEATHER,
    calls_of,
    model_turn,
    quoted,
    result_of,
    result_turn,
    streamed_arguments,
    text_of,
    user_turn,
)


async def test_a_function_call_and_its_result_make_a_loop(client: Client) -> None:
    asked = await client.create(model=MODEL, input="Weather in Oslo?", tools=[WEATHER])
    assert asked["status"] == "requires_action"
    (call,) = calls_of(asked)
    assert call["name"] == "get_weather"
    assert "city" in call["arguments"]
    answered = await client.create(
        model=MODEL,
        tools=[WEATHER],
        previous_interaction_id=asked["id"],
        input=[result_of(call, sky="marmalade")],
    )
    assert answered["status"] == "completed"
    assert quoted(text_of(answered), "Weather in Oslo?", "marmalade")


async def test_a_pending_call_can_be_read_back(client: Client) -> None:
    asked = await client.create(model=MODEL, input="Weather in Rome?", tools=[WEATHER])
    stored = await client.get(asked["id"])
    assert stored["status"] == "requires_action"
    assert calls_of(stored) == calls_of(asked)


async def test_a_streamed_call_has_the_arguments_of_the_record(client: Client) -> None:
    events = await client.stream(model=MODEL, input="Weather in Lima?", tools=[WEATHER])
    end = events[-1]["interaction"]
    assert end["status"] == "requires_action"
    (call,) = calls_of(await client.get(end["id"]))
    assert streamed_arguments(events) == call["arguments"]
    answered = await client.create(
        model=MODEL, tools=[WEATHER], previous_interaction_id=end["id"], input=[result_of(call, sky="violet")]
    )
    assert quoted(text_of(answered), "Weather in Lima?", "violet")


async def test_a_call_can_be_replayed_from_the_history_of_the_client(client: Client) -> None:
    question = user_turn(client.sdk, "Weather in Cairo?")
    asked = await client.create(model=MODEL, tools=[WEATHER], input=[question], store=False)
    (call,) = calls_of(asked)
    result = result_turn(client.sdk, result_of(call, sky="copper"))
    history = [question, *model_turn(client.sdk, asked), result]
    answered = await client.create(model=MODEL, tools=[WEATHER], input=history, store=False)
    assert answered["status"] == "completed"
    assert quoted(text_of(answered), "Weather in Cairo?", "copper")
