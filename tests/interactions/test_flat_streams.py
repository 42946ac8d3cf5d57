"""Streams whose answer is in the flat outputs of their last event: everybody finds it, and the conversation has it."""

from __future__ import annotations

import pytest

from tests.interactions.conversations import said
from tests.support.gateway import LEGACY, STEPS, Gateway
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json
from tests.support.upstreams import Emulated, answering, sse

CALLERS: dict[str, dict[str, str]] = {"steps": STEPS, "legacy": LEGACY, "neither": {}}
FLAT = ("flat_outputs", "flat_outputs;thoughts=1", "flat_outputs;repeated=1")


def outputs_text(body: Json) -> str:
    return "".join(output.get("text", "") for output in body["outputs"])


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("fault", FLAT)
async def test_a_flat_answer_is_found_by_everybody(
    gateway: Gateway, upstream: Emulated, fault: str, caller: str
) -> None:
    headers = CALLERS[caller]
    made = await gateway.stream("One apple", fault=fault, headers=headers)
    assert made.done
    answer = outputs_text(made.final)
    assert 'said: "One apple"' in answer
    assert made.text == answer

    read = await gateway.got(made.id, headers=headers)
    assert outputs_text(read.body) == answer
    if caller != "legacy":
        assert read.text == answer
        thoughts = [step for step in read.body["steps"] if step["type"] == "thought"]
        assert bool(thoughts) is (fault != "flat_outputs")
    again = await gateway.events(made.id, headers=headers)
    assert again.events == made.events

    local = {"x-interactions-history": "local"}
    await gateway.stream("Two", headers={**headers, **local}, previous_interaction_id=made.id)
    sent = upstream.creates[-1]["input"]
    assert [step for step in sent if step["type"] != "thought"] == [
        said("One apple"),
        {"type": "model_output", "content": [{"type": "text", "text": answer}]},
        said("Two"),
    ]


@pytest.mark.parametrize("fault", FLAT)
async def test_a_flat_stream_that_breaks_is_told_to_its_end(gateway: Gateway, fault: str) -> None:
    whole = await gateway.stream("One apple", fault=fault, headers=STEPS)
    for events in range(1, len(whole.events)):
        broken = await gateway.stream("One apple", fault=f"{fault},cut;after={events}", headers=STEPS)
        assert (broken.done, broken.text, broken.final["status"]) == (True, whole.text, "completed"), events
        read = await gateway.got(broken.id, headers=STEPS)
        assert read.text == whole.text
        told = [event["step"]["type"] for event in broken.events if event["event_type"] == "step.start"]
        assert told == [step["type"] for step in read.body["steps"]], events


async def test_a_song_in_outputs_beside_steps_is_found_once(gateway: Gateway) -> None:
    for fault in ("", *FLAT):
        made = await gateway.stream("A song", fault=fault, headers=STEPS, model="lyria-3-pro-preview")
        read = await gateway.got(made.id, headers=STEPS)
        kinds = [part["type"] for step in read.body["steps"] for part in step.get("content", ())]
        assert kinds == ["text", "audio"], fault
        assert [output["type"] for output in read.body["outputs"]] == kinds


async def test_the_last_event_is_upstreams_own_behind_the_steps(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    head = {"id": "v1_flat", "object": "interaction", "model": "lyria-3-pro-preview"}
    outputs = [{"type": "text", "text": "FLAT"}]
    ended = {**head, "status": "completed", "usage": {"total_tokens": 3}, "outputs": outputs}
    body = sse(
        {"event_type": "interaction.created", "interaction": {**head, "status": "in_progress"}},
        {"event_type": "interaction.completed", "interaction": ended},
    )
    gateway = await start_gateway(await start_scripted(answering(body, content_type="text/event-stream")))
    streamed = await gateway.stream(headers=STEPS)
    assert streamed.types == [
        "interaction.created",
        "step.start",
        "step.delta",
        "step.stop",
        "interaction.completed",
    ]
    assert streamed.final == {**ended, "id": streamed.id}
    read = await gateway.got(streamed.id, headers=STEPS)
    assert read.body == {
        **ended,
        "id": streamed.id,
        "steps": [{"type": "model_output", "content": outputs}],
    }
    # Whoever has lost the connection before the end goes on with what is told here.
    behind = await gateway.events(streamed.id, headers=STEPS, last_event_id=streamed.events[1]["event_id"])
    assert behind.events == streamed.events[2:]
