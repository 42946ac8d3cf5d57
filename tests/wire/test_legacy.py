from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given

from service.errors import InvalidRequest
from service.wire.legacy import (
    interaction_to_legacy,
    interaction_with_both,
    outputs_to_steps,
    request_to_steps,
    steps_to_outputs,
)
from service.wire.steps import made_steps
from tests.wire.strategies import interactions, legacy_step_lists, output_lists, step_lists

HELLO = {"type": "text", "text": "Hello!"}
IMAGE = {"type": "image", "mime_type": "image/png", "data": "aGk="}
THOUGHT = {"type": "thought", "signature": "Co..."}
CALL = {"type": "function_call", "id": "fc_1", "name": "get_weather", "arguments": {"location": "Boston, MA"}}
RESULT = {"type": "function_result", "call_id": "fc_1", "name": "get_weather", "result": {"weather": "sunny"}}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def user(*content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "user_input", "content": list(content)}


def model(*content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "model_output", "content": list(content)}


def translated(**members: Any) -> dict[str, Any]:
    before = deepcopy(members)
    request = request_to_steps(members)
    assert members == before
    assert request_to_steps(request) == request
    return request


def test_googles_turn_list_becomes_steps() -> None:
    turns = [
        {"role": "user", "content": "Hello!"},
        {"role": "model", "content": "Hi there! How can I help you today?", "type": None},
        {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]},
    ]
    assert translated(model="m", input=turns)["input"] == [
        user(HELLO),
        model(text("Hi there! How can I help you today?")),
        user(text("What is the capital of France?")),
    ]


def test_googles_stateless_function_conversation_becomes_steps() -> None:
    turns = [
        {"role": "user", "content": "What is the weather in Boston?"},
        {"role": "model", "content": [THOUGHT, CALL]},
        {"role": "user", "content": [RESULT]},
        {"role": "model", "content": [text("Sunny.")]},
        {"role": "user", "content": "And tomorrow?"},
    ]
    request = translated(model="gemini-2.5-flash", store=False, input=turns)
    assert request == {
        "model": "gemini-2.5-flash",
        "store": False,
        "input": [
            user(text("What is the weather in Boston?")),
            THOUGHT,
            CALL,
            RESULT,
            model(text("Sunny.")),
            user(text("And tomorrow?")),
        ],
    }


def test_a_turn_that_mixes_content_and_results_keeps_their_order() -> None:
    turns = [{"role": "user", "content": [HELLO, IMAGE, RESULT, "and this"]}, RESULT, HELLO]
    assert translated(input=turns)["input"] == [
        user(HELLO, IMAGE),
        RESULT,
        user(text("and this")),
        RESULT,
        user(HELLO),
    ]


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        ({"role": "user", "content": "Hello!"}, [user(HELLO)]),
        ({"role": "model", "content": HELLO}, [model(HELLO)]),
        (RESULT, [RESULT]),
        ([HELLO, RESULT], [user(HELLO), RESULT]),
        ([{"role": "user", "content": []}], []),
    ],
)
def test_other_legacy_inputs_become_steps(value: Any, steps: list[dict[str, Any]]) -> None:
    assert translated(input=value)["input"] == steps


@pytest.mark.parametrize(
    "value",
    [
        "Hello",
        HELLO,
        [HELLO, IMAGE],
        [RESULT],
        [user(HELLO), THOUGHT, CALL, RESULT],
        [{"type": "compaction"}],
        None,
        5,
    ],
)
def test_inputs_that_both_generations_know_stay_as_they_are(value: Any) -> None:
    assert translated(model="m", input=value) == {"model": "m", "input": value}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (
            {"role": "assistant", "content": "a"},
            "The value 'assistant' is not supported for 'role' at 'input[0]'.",
        ),
        ({"role": None, "content": "a"}, "The value 'None' is not supported for 'role' at 'input[0]'."),
        ({"role": "user"}, "Missing 'content' at 'input[0]'."),
        ({"role": "user", "content": 5}, "Missing 'content' at 'input[0]'."),
        ({"role": "user", "content": [HELLO, 5]}, "The value is invalid for 'input[0].content[1]'."),
    ],
)
def test_a_turn_that_cannot_be_read_is_refused(turn: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_to_steps({"input": [turn]})
    assert caught.value.message.startswith(message)


SCHEMA = {"type": "object", "properties": {"summary": {"type": "string"}}}


@pytest.mark.parametrize(
    ("given_members", "response_format"),
    [
        (
            {"response_mime_type": "application/json", "response_format": SCHEMA},
            {"type": "text", "mime_type": "application/json", "schema": SCHEMA},
        ),
        ({"response_mime_type": "application/json"}, {"type": "text", "mime_type": "application/json"}),
        (
            {"response_mime_type": "text/plain", "response_format": None},
            {"type": "text", "mime_type": "text/plain"},
        ),
        ({"response_mime_type": "image/jpeg"}, {"type": "image", "mime_type": "image/jpeg"}),
    ],
)
def test_the_mime_type_moves_into_the_response_format(
    given_members: dict[str, Any], response_format: dict[str, Any]
) -> None:
    assert translated(model="m", **given_members) == {"model": "m", "response_format": response_format}


@pytest.mark.parametrize(
    "members",
    [
        {"response_format": SCHEMA},
        {"response_format": {"type": "text", "mime_type": "application/json", "schema": SCHEMA}},
        {"response_format": [{"type": "text"}, {"type": "image"}], "response_mime_type": "application/json"},
        {"response_format": {"type": "image"}, "response_mime_type": "image/jpeg"},
        {"response_mime_type": 5, "response_format": SCHEMA},
        {"tools": [{"type": "function", "name": "f"}, "odd"], "generation_config": {"thinking_level": "low"}},
        {"tools": 5, "generation_config": [], "agent_config": "odd", "response_modalities": {"a": 1}},
        {"x_future": {"role": "user"}},
    ],
)
def test_a_steps_request_stays_as_it_is(members: dict[str, Any]) -> None:
    assert translated(**members) == members


def test_old_spellings_become_todays() -> None:
    request = translated(
        tools=[
            {
                "type": "computer_use",
                "environment": "browser",
                "excludedPredefinedFunctions": ["drag_and_drop"],
            }
        ],
        generation_config={
            "thinking_summaries": "THINKING_SUMMARIES_NONE",
            "thinking_level": "HIGH",
            "seed": 1,
        },
        agent_config={"type": "deep-research", "thinking_summaries": "THINKING_SUMMARIES_AUTO"},
        response_modalities=["TEXT", "image", 5],
    )
    assert request == {
        "tools": [
            {
                "type": "computer_use",
                "environment": "browser",
                "excluded_predefined_functions": ["drag_and_drop"],
            }
        ],
        "generation_config": {"thinking_summaries": "none", "thinking_level": "high", "seed": 1},
        "agent_config": {"type": "deep-research", "thinking_summaries": "auto"},
        "response_modalities": ["text", "image", 5],
    }


def merged(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps as far as the legacy form tells them apart: neighbouring model outputs are one."""
    result: list[dict[str, Any]] = []
    for step in steps:
        if step["type"] == "model_output" and result and result[-1]["type"] == "model_output":
            result[-1] = {**step, "content": [*result[-1]["content"], *step["content"]]}
        else:
            result.append(step)
    return result


@given(legacy_step_lists)
def test_steps_survive_the_legacy_form(steps: list[dict[str, Any]]) -> None:
    before = deepcopy(steps)
    assert outputs_to_steps(steps_to_outputs(steps)) == merged(steps)
    assert steps == before


@given(output_lists)
def test_outputs_survive_being_steps(outputs: list[dict[str, Any]]) -> None:
    before = deepcopy(outputs)
    assert steps_to_outputs(outputs_to_steps(outputs)) == outputs
    assert outputs == before


@given(output_lists)
def test_outputs_sent_back_in_a_model_turn_are_the_steps_they_came_from(
    outputs: list[dict[str, Any]],
) -> None:
    request = request_to_steps(
        {"input": [{"role": "model", "content": outputs}, {"role": "user", "content": "a"}]}
    )
    assert request["input"] == [*outputs_to_steps(outputs), user(text("a"))]


@given(step_lists)
def test_a_step_list_is_translated_to_itself(steps: list[dict[str, Any]]) -> None:
    assert request_to_steps({"input": steps}) == {"input": steps}


def test_the_users_part_is_not_an_output() -> None:
    assert steps_to_outputs([user(HELLO), THOUGHT, model(text("Hi"), IMAGE), CALL]) == [
        THOUGHT,
        text("Hi"),
        IMAGE,
        CALL,
    ]
    assert steps_to_outputs([{"type": "model_output", "content": "bare"}, {"type": "model_output"}]) == [
        text("bare")
    ]


@pytest.mark.parametrize(
    "before", [[], [user(HELLO)], [user(HELLO), CALL], [user(HELLO), model(HELLO), CALL]]
)
def test_the_result_that_a_model_was_given_is_not_an_output(before: list[dict[str, Any]]) -> None:
    timeline = [*before, RESULT, RESULT, THOUGHT, model(text("Sunny."))]
    for view in (interaction_to_legacy, interaction_with_both):
        assert view({"model": "m", "steps": timeline})["outputs"] == [THOUGHT, text("Sunny.")]


@pytest.mark.parametrize("sandbox", [{"agent": "a"}, {"model": "m", "environment_id": "e"}, {}])
def test_the_results_of_a_sandbox_are_outputs(sandbox: dict[str, str]) -> None:
    worked = [CALL, RESULT, text("Done.")]
    timeline = [user(HELLO), RESULT, CALL, RESULT, model(text("Done."))]
    for view in (interaction_to_legacy, interaction_with_both):
        assert view({**sandbox, "steps": timeline})["outputs"] == worked


STEPS_BODY: dict[str, Any] = {
    "created": "2025-11-26T12:25:15Z",
    "id": "v1_ChdPU0F4YWFtNkFwS2kxZThQZ05lbXdROBIXT1NBeGFhbTZBcEtpMWU4UGdOZW13UTg",
    "model": "gemini-3-flash-preview",
    "object": "interaction",
    "steps": [
        {"type": "model_output", "content": [{"type": "text", "text": "Hello! I'm functioning perfectly."}]}
    ],
    "status": "completed",
    "updated": "2025-11-26T12:25:15Z",
    "usage": {
        "input_tokens_by_modality": [{"modality": "text", "tokens": 7}],
        "total_cached_tokens": 0,
        "total_input_tokens": 7,
        "total_output_tokens": 20,
        "total_thought_tokens": 22,
        "total_tokens": 49,
        "total_tool_use_tokens": 0,
    },
}


def test_googles_steps_body_becomes_googles_legacy_body() -> None:
    legacy = interaction_to_legacy(STEPS_BODY)
    assert legacy == {
        "created": "2025-11-26T12:25:15Z",
        "id": "v1_ChdPU0F4YWFtNkFwS2kxZThQZ05lbXdROBIXT1NBeGFhbTZBcEtpMWU4UGdOZW13UTg",
        "model": "gemini-3-flash-preview",
        "object": "interaction",
        "outputs": [{"text": "Hello! I'm functioning perfectly.", "type": "text"}],
        "role": "model",
        "status": "completed",
        "updated": "2025-11-26T12:25:15Z",
        "usage": {**STEPS_BODY["usage"], "total_reasoning_tokens": 22},
    }


def test_googles_migration_sample_of_a_call() -> None:
    steps = [{"type": "thought", "signature": "abc123..."}, CALL]
    legacy = interaction_to_legacy({"id": "v1_a", "status": "requires_action", "steps": steps})
    assert legacy["outputs"] == steps
    assert legacy["status"] == "requires_action"


def test_a_running_interaction_has_no_outputs_and_keeps_legacy_clients_polling() -> None:
    assert interaction_to_legacy({"id": "v1_a", "status": "queued"}) == {
        "id": "v1_a",
        "object": "interaction",
        "role": "model",
        "status": "in_progress",
    }


def test_outputs_of_a_model_that_still_answers_in_outputs_are_kept() -> None:
    body = {"id": "v1_a", "status": "completed", "outputs": [HELLO, IMAGE]}
    assert interaction_to_legacy(body)["outputs"] == [HELLO, IMAGE]
    assert interaction_with_both(body)["outputs"] == [HELLO, IMAGE]
    assert interaction_with_both(body)["steps"] == [model(HELLO, IMAGE)]


def test_reasoning_tokens_that_are_there_are_left_alone() -> None:
    usage = {"total_thought_tokens": 1, "total_reasoning_tokens": 2}
    assert interaction_to_legacy({"usage": usage})["usage"] == usage
    assert interaction_to_legacy({"usage": {"total_tokens": 1}})["usage"] == {"total_tokens": 1}
    assert interaction_to_legacy({"usage": None})["usage"] is None


def test_an_undecided_caller_finds_what_either_generation_documents() -> None:
    both = interaction_with_both(STEPS_BODY)
    assert both == {**STEPS_BODY, "role": "model", "outputs": STEPS_BODY["steps"][0]["content"]}
    assert both["outputs"][-1]["text"] == "Hello! I'm functioning perfectly."
    assert interaction_with_both({"status": "queued"}) == {
        "status": "queued",
        "object": "interaction",
        "role": "model",
    }


@given(interactions)
def test_views_change_nothing_in_what_they_view(interaction: dict[str, Any]) -> None:
    before = deepcopy(interaction)
    legacy = interaction_to_legacy(interaction)
    both = interaction_with_both(interaction)
    assert interaction == before
    assert "steps" not in legacy
    assert both["outputs"] == legacy["outputs"] == steps_to_outputs(made_steps(interaction))
    assert {name: both[name] for name in interaction} == interaction
