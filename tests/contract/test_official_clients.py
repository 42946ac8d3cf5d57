"""Official clients work unchanged by base URL alone (promise P7)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping

import pytest

from tests.contract.official import Client, Json, SdkError
from tests.contract.reading import (
    AGENT,
    MODEL,
    model_turn,
    produced,
    quoted,
    text_of,
    text_part,
    user_turn,
)

PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU"
    b"\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
).decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
RUNNING = {"queued", "in_progress"}
SHORT_RUN = {"x-emulator-behavior": "background;queued=0.1;running=0.1"}
LONG_RUN = {"x-emulator-behavior": "background;queued=0;running=600"}


async def test_create_answers_in_the_generation_of_the_client(client: Client) -> None:
    answer = await client.create(model=MODEL, input="Name a colour.", system_instruction="Be brief.")
    assert answer["status"] == "completed"
    assert answer["model"] == MODEL
    assert answer["id"].startswith("int_")
    assert quoted(text_of(answer), "Name a colour.")
    assert "Be brief." in text_of(answer)
    if client.sdk.generation == "legacy":
        assert answer["role"] == "model"
        assert "steps" not in answer
    else:
        assert [step["type"] for step in answer["steps"]][-1] == "model_output"
        assert "outputs" not in answer


async def test_usage_reaches_the_client_and_adds_up(client: Client) -> None:
    usage = (await client.create(model=MODEL, input="Count these words."))["usage"]
    parts = [usage[f"total_{kind}_tokens"] for kind in ("input", "output", "thought", "tool_use")]
    assert usage["total_input_tokens"] > 0
    assert usage["total_output_tokens"] > 0
    assert usage["total_tokens"] == sum(parts)
    if client.sdk.generation == "legacy":
        assert usage["total_reasoning_tokens"] == usage["total_thought_tokens"]


async def test_a_model_may_be_named_with_its_provider(client: Client) -> None:
    answer = await client.create(model=f"gemini/{MODEL}", input="Which one?")
    assert answer["model"] == MODEL
    assert "Which one?" in text_of(answer)


async def test_create_takes_a_list_of_content(client: Client) -> None:
    image = {"type": "image", "mime_type": "image/png", "data": PIXEL}
    answer = await client.create(model=MODEL, input=[text_part("What is this?"), image, text_part("A dot?")])
    assert answer["status"] == "completed"
    assert quoted(text_of(answer), "What is this?", "A dot?")


async def test_a_chain_carries_the_whole_conversation(client: Client) -> None:
    first = await client.create(model=MODEL, input="My name is Ada.")
    second = await client.create(model=MODEL, input="I like chess.", previous_interaction_id=first["id"])
    third = await client.create(model=MODEL, input="Who am I?", previous_interaction_id=second["id"])
    assert quoted(text_of(third), "My name is Ada.", "I like chess.", "Who am I?")
    assert third["previous_interaction_id"] == second["id"]
    assert third["usage"]["total_input_tokens"] > first["usage"]["total_input_tokens"]
    assert len({first["id"], second["id"], third["id"]}) == 3


async def test_a_chain_may_branch(client: Client) -> None:
    root = await client.create(model=MODEL, input="The root.")
    left = await client.create(model=MODEL, input="To the left.", previous_interaction_id=root["id"])
    right = await client.create(model=MODEL, input="To the right.", previous_interaction_id=root["id"])
    assert quoted(text_of(left), "The root.", "To the left.")
    assert quoted(text_of(right), "The root.", "To the right.")
    assert "To the left." not in text_of(right)


async def test_get_returns_what_create_returned(client: Client) -> None:
    created = await client.create(model=MODEL, input="Remember this.")
    stored = await client.get(created["id"])
    assert produced(stored) == produced(created)
    assert text_of(stored) == text_of(created)
    for member in ("id", "status", "model", "created", "updated"):
        assert stored[member] == created[member]
    assert _totals(stored["usage"]) == _totals(created["usage"])


async def test_get_can_include_the_input(client: Client) -> None:
    created = await client.create(model=MODEL, input="What I asked.")
    stored = await client.get(created["id"], include_input=True)
    if client.sdk.generation == "legacy":
        assert "What I asked." in json.dumps(stored["input"])
    else:
        assert stored["steps"][0] == {"type": "user_input", "content": [text_part("What I asked.")]}
    assert produced(stored) == produced(created)


async def test_an_interaction_that_is_not_stored_cannot_be_read_or_continued(client: Client) -> None:
    answer = await client.create(model=MODEL, input="Off the record.", store=False)
    assert "Off the record." in text_of(answer)
    if answer.get("id"):
        with pytest.raises(SdkError) as caught:
            await client.get(answer["id"])
        assert caught.value.status == 404
        with pytest.raises(SdkError) as caught:
            await client.create(model=MODEL, input="And?", previous_interaction_id=answer["id"])
        assert caught.value.status == 404


async def test_a_client_may_keep_the_history_itself(client: Client) -> None:
    question = user_turn(client.sdk, "My dog is Rex.")
    first = await client.create(model=MODEL, input=[question], store=False)
    history = [question, *model_turn(client.sdk, first), user_turn(client.sdk, "What is he called?")]
    second = await client.create(model=MODEL, input=history, store=False)
    assert quoted(text_of(second), "My dog is Rex.", "What is he called?")


async def test_an_answer_can_be_bound_to_a_schema(client: Client) -> None:
    if client.sdk.generation == "legacy":
        wanted: Json = {"response_format": SCHEMA, "response_mime_type": "application/json"}
    else:
        wanted = {"response_format": {"type": "text", "mime_type": "application/json", "schema": SCHEMA}}
    answer = await client.create(model=MODEL, input="A city, please.", **wanted)
    assert isinstance(json.loads(text_of(answer))["city"], str)


async def test_the_end_of_the_budget_shows(client: Client) -> None:
    answer = await client.create(
        model=MODEL, input="Tell me everything.", generation_config={"max_output_tokens": 4}
    )
    assert answer["status"] == "incomplete"


async def test_a_background_agent_is_read_when_it_is_done(client: Client) -> None:
    worker = client.having(headers=SHORT_RUN)
    created = await worker.create(agent=AGENT, input="Research the history of tea.", background=True)
    assert created["status"] in _running(client)
    assert created["agent"] == AGENT
    finished = await _finished(worker, created["id"])
    assert finished["status"] == "completed"
    assert "Research the history of tea." in text_of(finished)
    assert finished["id"] == created["id"]


async def test_a_background_run_can_be_cancelled(client: Client) -> None:
    worker = client.having(headers=LONG_RUN)
    created = await worker.create(model=MODEL, input="Take your time.", background=True)
    cancelled = await worker.cancel(created["id"])
    assert cancelled["status"] == "cancelled"
    assert cancelled["id"] == created["id"]
    assert (await worker.get(created["id"]))["status"] == "cancelled"


async def test_a_deleted_interaction_is_gone(client: Client) -> None:
    created = await client.create(model=MODEL, input="Forget this.")
    await client.delete(created["id"])
    with pytest.raises(SdkError) as caught:
        await client.get(created["id"])
    assert (caught.value.name, caught.value.status) == ("NotFoundError", 404)
    with pytest.raises(SdkError) as caught:
        await client.create(model=MODEL, input="What?", previous_interaction_id=created["id"])
    assert caught.value.status == 404


async def test_the_hops_of_a_long_answer_are_followed(client: Client) -> None:
    hopping = client.having(headers={"x-emulator-behavior": "continuation;hops=3"})
    answer = await hopping.create(model=MODEL, input="A long story.", system_instruction="Be long.")
    if client.sdk.continues:
        assert answer["status"] == "completed"
        assert len(answer["continuation_ids"]) > 1
        assert all(hop.startswith("int_") for hop in answer["continuation_ids"])
    else:
        assert answer["status"] in {"requires_continuation", "incomplete"}


async def test_the_asynchronous_client_works_as_well(client: Client) -> None:
    waiting = client.having(asynchronous=True)
    first = await waiting.create(model=MODEL, input="One, asynchronously.")
    second = await waiting.create(model=MODEL, input="Two.", previous_interaction_id=first["id"])
    assert quoted(text_of(second), "One, asynchronously.", "Two.")
    assert text_of(await waiting.get(first["id"])) == text_of(first)


async def _finished(client: Client, interaction_id: str) -> Json:
    for _ in range(100):
        answer = await client.get(interaction_id)
        if answer["status"] not in RUNNING:
            return answer
        assert answer["status"] in _running(client)
        await asyncio.sleep(0.1)
    raise AssertionError(f"{interaction_id} did not finish")


def _running(client: Client) -> set[str]:
    """Legacy knows no `queued` (contract 3.4): a client that polls while `in_progress` would stop there."""
    return {"in_progress"} if client.sdk.generation == "legacy" else RUNNING


def _totals(usage: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in usage.items() if name.startswith("total_")}
