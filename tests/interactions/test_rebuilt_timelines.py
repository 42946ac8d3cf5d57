"""A rebuilt request carries the whole conversation; what GET then shows of it is not part of the interaction."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from service.interactions.timeline import was_rebuilt, without_history
from tests.interactions.conversations import WEATHER, assert_quotes, assert_rebuilt, result_of, said
from tests.support.gateway import Gateway
from tests.support.gateways import StartGateway
from tests.support.replies import Json, Reply
from tests.support.upstreams import Emulated

_LONG = 100.0
_ANSWER: Json = {"type": "model_output", "content": [{"type": "text", "text": "Yes."}]}
_CALL: Json = {"type": "function_call", "id": "c1", "name": "f", "arguments": {}}
_RESULT: Json = {"type": "function_result", "call_id": "c1", "name": "f", "result": "sunny"}


@pytest.fixture
async def gateway(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service, which asks about background runs when a client does."""
    return await start_gateway(upstream, background_streams=0, poll_interval=1000, poll_interval_max=1000)


async def _in_background(gateway: Gateway, upstream: Emulated, content: Any, **members: Any) -> Reply:
    running = await gateway.ask(content, background=True, **members)
    upstream.clock.advance(_LONG)
    return await gateway.finished(running.id)


async def test_a_polled_interaction_shows_its_own_input_only(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    second = await _in_background(gateway, upstream, "Two pears", previous_interaction_id=first.id)
    assert_quotes(second, "One apple", "Two pears")
    kinds = [step["type"] for step in second.body["steps"]]
    assert kinds == ["user_input", "thought", "model_output"]
    assert second.body["steps"][0] == said("Two pears")
    assert (await gateway.got(second.id)).body == second.body
    upstream.forget()
    third = await _in_background(gateway, upstream, "Three plums", previous_interaction_id=second.id)
    assert_rebuilt(upstream.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")
    upstream.forget()
    await gateway.ask("Four figs", previous_interaction_id=third.id)
    told: list[tuple[Any, Reply]] = [("One apple", first), ("Two pears", second), ("Three plums", third)]
    assert_rebuilt(upstream.creates[-1], told, "Four figs")


async def test_what_is_polled_again_and_again_does_not_change(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    running = await gateway.ask("Two", background=True, previous_interaction_id=first.id)
    once, again = [await gateway.got(running.id) for _ in range(2)]
    assert once.body["status"] in ("queued", "in_progress")
    assert once.body["steps"] == again.body["steps"] == [said("Two")]


async def test_an_input_that_upstream_tells_in_other_words_is_still_found(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    # Upstream drops null members; clients send them (contract 2.2).
    asked = [{"type": "user_input", "content": [{"type": "text", "text": "Two", "annotations": None}]}]
    second = await _in_background(gateway, upstream, asked, previous_interaction_id=first.id)
    assert [step["type"] for step in second.body["steps"]] == ["user_input", "thought", "model_output"]
    upstream.forget()
    await gateway.ask("Three", previous_interaction_id=second.id)
    assert_rebuilt(upstream.creates[-1], [("One apple", first), (asked, second)], "Three")


async def test_results_in_the_background_are_said_once(gateway: Gateway, upstream: Emulated) -> None:
    asked = await gateway.ask("The weather?", tools=[WEATHER])
    result = result_of(asked, "sunny")
    upstream.forget()
    told = await _in_background(
        gateway, upstream, [result], previous_interaction_id=asked.id, tools=[WEATHER]
    )
    assert [step["type"] for step in told.body["steps"]] == ["function_result", "thought", "model_output"]
    upstream.forget()
    await gateway.ask("Thanks", previous_interaction_id=told.id)
    conversation = [said("The weather?"), *asked.steps, *told.body["steps"], said("Thanks")]
    assert upstream.creates[-1]["input"] == conversation


async def test_a_stream_that_broke_is_recovered_without_the_history(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    broken = await gateway.stream("Two pears", previous_interaction_id=first.id, fault="cut;after=8")
    assert broken.done
    second = await gateway.got(broken.id)
    assert second.body["status"] == "completed"
    assert [step["type"] for step in second.body["steps"]] == ["thought", "model_output"]
    upstream.forget()
    await gateway.ask("Three plums", previous_interaction_id=second.id)
    assert_rebuilt(upstream.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")


@pytest.mark.parametrize(
    ("timeline", "asked", "kept"),
    [
        # As sent.
        ([said("a"), _ANSWER, said("b"), _ANSWER], "b", [said("b"), _ANSWER]),
        ([said("b"), _ANSWER, said("b"), _ANSWER], "b", [said("b"), _ANSWER]),
        ([said("a"), _CALL, _RESULT, _ANSWER], [_RESULT], [_RESULT, _ANSWER]),
        # In other words.
        ([said("a"), _ANSWER, said("B"), _ANSWER], "b", [said("b"), _ANSWER]),
        ([said("a"), _CALL, {**_RESULT, "is_error": False}, _ANSWER], [_RESULT], [_RESULT, _ANSWER]),
        # The call and the result of a sandbox are the model's own.
        ([said("a"), _ANSWER, said("b"), _CALL, _RESULT, _ANSWER], "b", [said("b"), _CALL, _RESULT, _ANSWER]),
        ([said("a"), _ANSWER, said("B"), _CALL, _RESULT], "b", [said("b"), _CALL, _RESULT]),
        # What is no id of a call names none.
        (
            [said("a"), {**_RESULT, "call_id": {"x": []}}, _ANSWER],
            "b",
            [said("b"), {**_RESULT, "call_id": {"x": []}}, _ANSWER],
        ),
        # A history of the client's own may end with a step of the model.
        ([said("a"), _ANSWER, _ANSWER], [said("a"), _ANSWER], [said("a"), _ANSWER, _ANSWER]),
        # A hop has no input, and upstream need not show any.
        ([said("a"), _ANSWER, _ANSWER], [], [_ANSWER, _ANSWER]),
        ([_ANSWER], "b", [_ANSWER]),
        ([], "b", []),
    ],
)
def test_a_timeline_is_cut_where_the_callers_input_begins(
    timeline: list[Json], asked: Any, kept: list[Json]
) -> None:
    body = {"status": "completed", "steps": timeline}
    assert without_history(body, {"model": "m", "input": asked})["steps"] == kept
    assert body["steps"] == timeline


def test_a_body_without_steps_stays_as_it_is() -> None:
    body = {"status": "queued"}
    assert without_history(body, {"input": "a"}) is body


@pytest.mark.parametrize(
    ("histories", "rebuilt"),
    [([], False), (["upstream"], False), (["rebuilt"], True), (["upstream", "rebuilt"], True)],
)
def test_the_attempts_tell_whether_a_request_was_rebuilt(histories: list[str], rebuilt: bool) -> None:
    attempts = orjson.dumps([{"history": history} for history in histories]).decode()
    assert was_rebuilt(attempts) is rebuilt
    assert not was_rebuilt(None)
