"""Every method, in every form, with a service inside the process and with one that runs elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from service import (
    BadRequest,
    InteractionCompleted,
    InteractionCreated,
    InteractionNotFound,
    RateLimited,
    ServiceFailed,
    StatusError,
    StepDelta,
    StreamLost,
    UnknownEvent,
    WaitTimeout,
)
from tests.support.sdk import MODEL, Sdk

SLOW = {"x-emulator-behavior": "background;queued=3600;running=3600"}
SOON = {"x-emulator-behavior": "background;queued=0.1;running=0.2"}


def fault(wish: str) -> dict[str, str]:
    return {"x-emulator-fault": wish}


def texts(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, StepDelta))


def test_an_answer_is_there_in_both_generations_of_the_schema(sdk: Sdk) -> None:
    made = sdk.create("Tell me a short joke about programming.")
    assert made.id.startswith("int_")
    assert made.status == "completed"
    assert made.model == "gemini-2.5-flash"
    assert made.steps[-1].type == "model_output"
    assert made.outputs[-1].text == made.output_text == made.steps[-1].text != ""
    assert made.outputs[0].type == made.steps[0].type == "thought"
    assert made.usage is not None
    assert made.usage.total_tokens


def test_what_was_created_can_be_read_and_continued(sdk: Sdk) -> None:
    first = sdk.create("Call me Ada.", system_instruction="Be brief.", generation_config={"seed": 7})
    assert sdk.get(first.id) == first
    follow_up = sdk.create("Who am I?", previous_interaction_id=first.id)
    assert follow_up.previous_interaction_id == first.id
    assert "Call me Ada." in follow_up.output_text
    again = sdk.get(follow_up.id, include_input=True)
    assert again.input == "Who am I?"
    assert again.steps[0].type == "user_input"
    assert again.steps[0].text == "Who am I?"


def test_members_and_fields_that_nobody_knows_are_kept(sdk: Sdk) -> None:
    made: Any = sdk.create(extra_headers={"x-emulator-behavior": "unknown"})
    told = made.model_dump(exclude_unset=True)
    assert any(set(step) - {"type", "content", "signature", "summary"} for step in told["steps"])
    assert sdk.get(made.id).model_dump(exclude_unset=True) == told
    with pytest.raises(BadRequest, match="x_future") as caught:
        sdk.create(extra_body={"x_future": 1})
    assert caught.value.status == 400


def test_steps_can_be_sent_again_as_they_came(sdk: Sdk) -> None:
    tools = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}]
    made = sdk.create("What is the weather?", tools=tools)
    assert made.status == "requires_action"
    call = made.steps[-1]
    assert (call.type, call.name) == ("function_call", "get_weather")
    result = {"type": "function_result", "call_id": call.id, "name": call.name, "result": {"sun": True}}
    asked = {"type": "user_input", "content": [{"type": "text", "text": "What is the weather?"}]}
    answered = sdk.create([asked, *made.steps, result], tools=tools, store=False)
    assert answered.status == "completed"


def test_a_stream_is_told_event_by_event(sdk: Sdk) -> None:
    events = sdk.stream("Write a 3 paragraph story about a robot.")
    created, *_, completed = events
    assert isinstance(created, InteractionCreated)
    assert isinstance(completed, InteractionCompleted)
    assert completed.interaction.usage is not None
    stored = sdk.get(created.interaction.id)
    assert texts(events) == stored.output_text
    assert [event.event_id for event in events] == [f"evt_{seq}" for seq in range(1, len(events) + 1)]


def test_a_stream_can_be_taken_up_behind_any_event(sdk: Sdk) -> None:
    events = sdk.stream("Slowly")
    created = events[0]
    assert isinstance(created, InteractionCreated)
    told = sdk.events(created.interaction.id)
    assert told == events
    for place in (1, len(events) // 2, len(events)):
        assert sdk.events(created.interaction.id, last_event_id=f"evt_{place}") == events[place:]


def test_a_unary_answer_can_be_watched_as_a_stream(sdk: Sdk) -> None:
    made = sdk.create()
    assert texts(sdk.events(made.id)) == made.output_text


def test_events_that_nobody_knows_are_told(sdk: Sdk) -> None:
    events = sdk.stream(extra_headers={"x-emulator-behavior": "unknown"})
    assert any(isinstance(event, UnknownEvent) and event.event_type and event.model_extra for event in events)


def test_a_run_in_the_background_is_waited_for(sdk: Sdk) -> None:
    made = sdk.create(background=True, extra_headers=SOON)
    assert not made.ended
    seen: list[str] = []
    told = sdk.wait(made, timeout=30, on_progress=lambda interaction: seen.append(interaction.status))
    assert told is made
    assert made.status == seen[-1] == "completed"
    assert made.output_text
    assert sdk.wait(made) is made


def test_a_wait_ends_and_the_run_goes_on_until_it_is_cancelled(sdk: Sdk) -> None:
    made = sdk.create(background=True, extra_headers=SLOW)
    with pytest.raises(WaitTimeout, match="goes on") as caught:
        sdk.wait(made, timeout=0.3)
    assert caught.value.interaction_id == made.id
    assert isinstance(caught.value, TimeoutError)
    assert sdk.cancel(made.id).status == "cancelled"
    assert sdk.wait(made).status == "cancelled"


def test_what_is_deleted_is_gone(sdk: Sdk) -> None:
    made = sdk.create()
    sdk.delete(made.id)
    with pytest.raises(InteractionNotFound) as caught:
        sdk.get(made.id)
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert made.id in caught.value.message
    with pytest.raises(InteractionNotFound):
        sdk.wait(sdk.create(background=True, extra_headers=SLOW).model_copy(update={"id": made.id}))


def test_upstreams_refusals_say_when_to_come_back_and_what_was_recorded(sdk: Sdk) -> None:
    refused = {**fault("status;code=429;retry_after=7;message=Slow down"), "x-num-retries": "0"}
    for call in (sdk.create, sdk.stream):
        with pytest.raises(RateLimited, match="Slow down") as caught:
            call(extra_headers=refused)
        error = caught.value
        assert (error.status, error.code, error.retry_after) == (429, "rate_limit_exceeded", 7.0)
        assert error.request_id
        assert error.interaction_id is not None
        assert sdk.get(error.interaction_id).status == "failed"


def test_refusals_are_told_apart(sdk: Sdk) -> None:
    with pytest.raises(ServiceFailed) as failed:
        sdk.create(extra_headers={**fault("status;code=503"), "x-num-retries": "0"})
    assert failed.value.status == 503
    with pytest.raises(BadRequest, match="cannot be cancelled"):
        sdk.cancel(sdk.create().id)
    with pytest.raises(InteractionNotFound):
        sdk.delete("int_unknown")
    with pytest.raises(StatusError, match="last_event_id"):
        sdk.events(sdk.create().id, last_event_id="evt_99999")


def test_what_the_library_can_see_is_refused_before_anything_is_sent(sdk: Sdk) -> None:
    with pytest.raises(BadRequest, match="'interaction_id' is empty"):
        sdk.get("")
    with pytest.raises(TypeError, match="did you mean 'tools'"):
        sdk.create(tool=[])
    with pytest.raises(TypeError, match="extra_body"):
        sdk.create(xyzzy=1)
    with pytest.raises(TypeError):
        sdk.get("int_1", model=MODEL)
    with pytest.raises(BadRequest, match="JSON"):
        sdk.create(generation_config={"seed": object()})


def test_a_call_can_be_given_a_time_limit(sdk: Sdk) -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.05 seconds"):
        sdk.create(timeout=0.05, extra_headers=fault("latency;seconds=0.5"))


def test_a_stream_ends_for_its_caller_with_the_time_that_it_was_given(sdk: Sdk) -> None:
    # It begins within a second, and would take many more than its time.
    slow = {
        **fault("trickle;bytes=32;seconds=0.1"),
        "x-emulator-behavior": "length;bytes=800",
        "x-timeout": "4",
    }
    with pytest.raises(StreamLost) as caught:
        sdk.stream(extra_headers=slow)
    assert caught.value.interaction_id is not None
    assert sdk.get(caught.value.interaction_id).status == "in_progress"
