"""Stateless histories are checked as upstream checks them (contract 5.3 and 5.5)."""

from __future__ import annotations

import copy

import pytest

from tests.emulator.client import Json, Upstream, step_types, text_of

BARE = "Request contains an invalid argument."
TOOLS = [
    {
        "type": "function",
        "name": name,
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
    }
    for name in ("add", "double")
]


def user(text: str) -> Json:
    return {"type": "user_input", "content": [{"type": "text", "text": text}]}


def results(steps: list[Json]) -> list[Json]:
    return [
        {
            "type": "function_result",
            "call_id": step["id"],
            "name": step["name"],
            "result": f"{step['name']} done",
        }
        for step in steps
        if step["type"] == "function_call"
    ]


@pytest.fixture
async def history(upstream: Upstream) -> list[Json]:
    """One full round of the function loop, and a new question."""
    asked = (await upstream.create("Compute", tools=TOOLS, store=False))["steps"]
    loop = [user("Compute"), *asked, *results(asked)]
    told = (await upstream.create(loop, tools=TOOLS, store=False))["steps"]
    return copy.deepcopy([*loop, *told, user("And now?")])


async def test_a_faithful_replay_is_accepted(upstream: Upstream, history: list[Json]) -> None:
    answer = await upstream.create(history, store=False)
    assert "add done" in text_of(answer)
    assert "I saw 2 user turns and 2 model turns." in text_of(answer)


async def test_only_the_first_call_of_a_batch_is_signed(history: list[Json]) -> None:
    calls = [step for step in history if step["type"] == "function_call"]
    assert ["signature" in call for call in calls] == [True, False]


async def test_a_dropped_thought_before_a_call_is_refused(upstream: Upstream, history: list[Json]) -> None:
    assert history.pop(1)["type"] == "thought"
    assert (await upstream.refused(input=history))["message"] == BARE


async def test_a_call_without_thought_and_signature_is_refused(
    upstream: Upstream, history: list[Json]
) -> None:
    del history[1]
    del history[1]["signature"]
    assert (await upstream.refused(input=history))["message"] == BARE


async def test_a_call_without_signature_after_its_thought_is_accepted(
    upstream: Upstream, history: list[Json]
) -> None:
    del history[2]["signature"]
    await upstream.create(history)


async def test_a_dropped_thought_before_text_is_accepted(upstream: Upstream, history: list[Json]) -> None:
    thoughts = [index for index, step in enumerate(history) if step["type"] == "thought"]
    del history[thoughts[-1]]
    await upstream.create(history)


@pytest.mark.parametrize("edit", ["", "AAAA", "not base64!"])
async def test_an_edited_signature_is_refused(upstream: Upstream, history: list[Json], edit: str) -> None:
    history[1]["signature"] = edit
    assert (await upstream.refused(input=history))["message"] == BARE


async def test_a_signature_with_one_other_letter_is_refused(upstream: Upstream, history: list[Json]) -> None:
    signature = history[2]["signature"]
    history[2]["signature"] = ("B" if signature[0] == "A" else "A") + signature[1:]
    assert (await upstream.refused(input=history))["message"] == BARE


async def test_a_missing_signature_of_a_thought_is_refused(upstream: Upstream, history: list[Json]) -> None:
    del history[1]["signature"]
    assert (await upstream.refused(input=history))["message"] == BARE


async def test_a_foreign_history_may_skip_the_check(upstream: Upstream) -> None:
    await upstream.create(
        [
            user("Add"),
            {"type": "thought", "signature": "skip_thought_signature_validator"},
            {"type": "function_call", "id": "c1", "name": "add", "arguments": {"n": 1}},
            {"type": "function_result", "call_id": "c1", "name": "add", "result": {"sum": 2}},
        ]
    )


async def test_a_call_that_answers_nothing_is_refused(upstream: Upstream, history: list[Json]) -> None:
    error = await upstream.refused(input=history[1:])
    assert error["message"] == (
        "Please ensure that function call turn comes immediately after a user turn or after a function "
        "response turn."
    )


async def test_a_call_after_a_stored_model_turn_is_refused(upstream: Upstream, history: list[Json]) -> None:
    first = await upstream.create("Hello")
    error = await upstream.refused(input=history[1:], previous_interaction_id=first["id"])
    assert error["message"].startswith("Please ensure that function call turn comes")


async def test_a_result_of_an_unknown_call_is_refused(upstream: Upstream, history: list[Json]) -> None:
    history[4]["call_id"] = "unknown1"
    assert (await upstream.refused(input=history))["message"] == BARE
    asked = await upstream.create("Compute", tools=TOOLS)
    answers = results(asked["steps"])
    answers[0]["call_id"] = "unknown1"
    assert (await upstream.refused(input=answers, previous_interaction_id=asked["id"]))["message"] == BARE


async def test_results_between_parallel_calls_are_refused(upstream: Upstream, history: list[Json]) -> None:
    history[3], history[4] = history[4], history[3]
    assert (await upstream.refused(input=history))["message"] == BARE


async def test_plain_text_history_is_accepted(upstream: Upstream) -> None:
    said = {"type": "model_output", "content": [{"type": "text", "text": "Hi there!"}]}
    text = text_of(await upstream.create([user("Hello"), said, user("Bye")]))
    assert "I saw 2 user turns and 1 model turn." in text


async def test_another_model_accepts_the_same_history(upstream: Upstream, history: list[Json]) -> None:
    await upstream.create(history, model="gemini-3.1-pro-preview")


async def test_edited_signatures_of_built_in_tools_are_refused(upstream: Upstream) -> None:
    made = await upstream.create("Search", tools=[{"type": "google_search"}], store=False)
    assert step_types(made)[0] == "google_search_call"
    history = [user("Search"), *made["steps"], user("More")]
    await upstream.create(history)
    history[1] = {**history[1], "signature": ""}
    assert (await upstream.refused(input=history))["message"] == BARE


async def test_only_finished_interactions_can_be_continued(upstream: Upstream) -> None:
    running = await upstream.create("Slow", background=True)
    assert (await upstream.refused(previous_interaction_id=running["id"]))["message"] == BARE
    upstream.clock.advance(60)
    await upstream.create("Go on", previous_interaction_id=running["id"])
    failed = await upstream.create("Fail", wish="failed")
    await upstream.refused(previous_interaction_id=failed["id"])
