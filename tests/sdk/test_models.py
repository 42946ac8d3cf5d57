"""Answers and events as models: nothing that a service says is lost or refused."""

from __future__ import annotations

from typing import Any

import pytest

from service import (
    Interaction,
    InteractionData,
    InteractionsClient,
    StepDelta,
    UnknownEvent,
)
from service.sdk.calls import Answer, error_of
from service.sdk.errors import (
    AuthenticationFailed,
    Conflict,
    InteractionsError,
    PermissionRefused,
    RateLimited,
    RequestTooLarge,
    ServiceFailed,
    StatusError,
    class_for,
)
from service.sdk.events import event_of
from service.sdk.filters import query_of
from service.sdk.params import create_body, plain

TOLD: dict[str, Any] = {
    "id": "int_1",
    "object": "interaction",
    "status": "completed",
    "model": "gemini-2.5-flash",
    "x_future": {"a": [1, None]},
    "steps": [
        {"type": "user_input", "content": "Hello"},
        {"type": "thought", "signature": "c2ln", "summary": [{"type": "text", "text": "Hm"}]},
        {"type": "compaction", "weight": 2.5, "nested": {"b": None}},
        {
            "type": "model_output",
            "content": [{"type": "text", "text": "Hi", "annotations": [{"type": "word_info"}], "x_more": 1}],
        },
    ],
    "usage": {
        "total_tokens": 3,
        "raw_prompt_token": 1,
        "grounding_tool_count": [{"type": "maps", "count": 1}],
    },
}


def test_what_was_received_comes_out_again() -> None:
    told = InteractionData.model_validate(TOLD).model_dump(mode="json", exclude_unset=True)
    expected = {**TOLD, "steps": [*TOLD["steps"]]}
    expected["steps"][0] = {"type": "user_input", "content": [{"type": "text", "text": "Hello"}]}
    assert told == expected


def test_unknown_members_are_attributes() -> None:
    told: Any = InteractionData.model_validate(TOLD)
    assert told.x_future == {"a": [1, None]}
    assert told.steps[2].weight == 2.5
    assert told.steps[3].content[0].x_more == 1
    assert told.usage.raw_prompt_token == 1


def test_outputs_are_what_the_model_made() -> None:
    told = InteractionData.model_validate(TOLD)
    assert [output.type for output in told.outputs] == ["thought", "compaction", "text"]
    assert told.outputs[-1].text == told.output_text == "Hi"


def test_an_interaction_told_in_outputs_has_steps_as_well() -> None:
    told = InteractionData.model_validate(
        {"status": "completed", "model": "lyria-3-pro-preview", "outputs": [{"type": "text", "text": "La"}]}
    )
    assert told.steps[0].content[0].text == told.outputs[0].text == told.output_text == "La"


def test_members_of_unexpected_types_are_kept_as_they_came() -> None:
    told: Any = InteractionData.model_validate(
        {**TOLD, "created": 7, "steps": [{"type": "thought", "id": 5}]}
    )
    assert told.created == 7
    assert told.x_future == {"a": [1, None]}
    delta: Any = event_of({"event_type": "step.delta", "index": "first", "delta": {"type": "text"}})
    assert delta.index == "first"
    assert isinstance(delta, StepDelta)


def test_only_what_was_told_is_shown() -> None:
    event = event_of({"event_type": "step.delta", "delta": {"type": "text", "text": "Hi"}, "x": 1})
    assert repr(event) == "StepDelta(event_type='step.delta', delta=Delta(type='text', text='Hi'), x=1)"


@pytest.mark.parametrize("kind", ["interaction.paused", None, 5])
def test_events_of_unknown_types_are_events(kind: Any) -> None:
    assert isinstance(event_of({"event_type": kind, "x": 1}), UnknownEvent)


def test_an_interaction_that_no_client_told_cannot_be_waited_for() -> None:
    with pytest.raises(TypeError, match="client"):
        Interaction(id="int_1", status="in_progress").wait()


@pytest.mark.parametrize(
    ("raw", "code", "message", "retry_after"),
    [
        (b'{"error":{"code":"quota_exceeded","message":"No more."}}', "quota_exceeded", "No more.", 9.0),
        (
            b'[{"error":{"code":429,"message":"Slow.","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"34s"}]}}]',
            "rate_limit_exceeded",
            "Slow.",
            9.0,
        ),
        (b"<html>", "rate_limit_exceeded", "Upstream answered 429 with a non-JSON body: <html>", 9.0),
    ],
)
def test_errors_are_read_in_every_shape(raw: bytes, code: str, message: str, retry_after: float) -> None:
    error = error_of(Answer(429, {"Retry-After": "9", "x-interaction-id": "int_1", "x-request-id": "r"}, raw))
    assert isinstance(error, RateLimited)
    assert (error.status, error.code, error.message, error.retry_after) == (429, code, message, retry_after)
    assert (error.interaction_id, error.request_id) == ("int_1", "r")


def test_every_status_has_its_class_in_one_tree() -> None:
    expected = {
        401: AuthenticationFailed,
        403: PermissionRefused,
        409: Conflict,
        413: RequestTooLarge,
        418: StatusError,
        429: RateLimited,
        502: ServiceFailed,
    }
    assert {status: class_for(status) for status in expected} == expected
    assert all(issubclass(kind, InteractionsError) for kind in expected.values())


def test_a_body_has_what_was_given_and_nothing_else() -> None:
    step = InteractionData.model_validate(TOLD).steps[1]
    body = create_body(
        {"model": "m", "input": (step,), "tools": None, "store": False, "extra_body": {"x": step}},
        stream=True,
    )
    assert body == {
        "model": "m",
        "input": [TOLD["steps"][1]],
        "store": False,
        "stream": True,
        "x": TOLD["steps"][1],
    }
    assert plain({"deep": [step]}) == {"deep": [TOLD["steps"][1]]}


def test_filters_become_a_query() -> None:
    query = query_of(
        {
            "status": ["failed", "incomplete"],
            "from_": "2026-11-01",
            "stream": False,
            "min_cost": 0.5,
            "labels": {"team": "search"},
            "model": None,
            "extra_query": {"x": "y"},
        }
    )
    assert query == {
        "status": "failed,incomplete",
        "from": "2026-11-01",
        "stream": "false",
        "min_cost": "0.5",
        "label:team": "search",
        "x": "y",
    }


def test_arguments_that_exclude_each_other_are_told() -> None:
    with pytest.raises(InteractionsError, match="config="):
        InteractionsClient(base_url="http://localhost:4000", config="config.yaml")
    with pytest.raises(InteractionsError, match="base_url"):
        InteractionsClient(base_url="localhost")
    with pytest.raises(TypeError, match="did you mean 'api_key'"):
        InteractionsClient(apikey="k")  # type: ignore[call-arg]
