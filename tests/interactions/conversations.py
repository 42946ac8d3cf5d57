"""Conversations: how tests hold one, and how they tell that the model saw all of it."""

from __future__ import annotations

from typing import Any

from service.wire.assembler import Assembler
from tests.support.gateway import MODEL, STEPS, Gateway
from tests.support.replies import Json, Reply

#: Of the emulator: a token in the middle of a stream's text.
CHECKPOINT = "checkpoint;after=8"

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def talk(gateway: Gateway, *texts: str) -> list[Reply]:
    """A conversation of so many turns."""
    replies: list[Reply] = []
    for text in texts:
        previous = {"previous_interaction_id": replies[-1].id} if replies else {}
        replies.append(await gateway.ask(text, **previous))
    return replies


def said(text: str) -> Json:
    """A user turn as upstream gets it."""
    return {"type": "user_input", "content": [{"type": "text", "text": text}]}


def steps_of(events: list[Json]) -> list[Json]:
    """The steps that a stream has told."""
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler.steps


def result_of(asked: Reply, result: str) -> Json:
    """The result of the only function call of an answer."""
    (call,) = [step for step in asked.steps if step["type"] == "function_call"]
    return {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": result}


def assert_rebuilt(body: Json, told: list[tuple[Any, Reply]], text: str) -> None:
    """The request carries the whole conversation, verbatim and in order, and no reference."""
    conversation: list[Json] = []
    for asked, reply in told:
        conversation += [said(asked)] if isinstance(asked, str) else asked
        conversation += reply.steps
    assert body["input"] == [*conversation, said(text)]
    assert "previous_interaction_id" not in body


def assert_quotes(reply: Reply, *texts: str) -> None:
    """The model saw these user turns and no others, in this order."""
    assert f"I saw {len(texts)} user turn" in reply.text
    places = [reply.text.find(f'"{text}"') for text in texts]
    assert -1 not in places
    assert places == sorted(places)


def checkpoint_of(events: list[Json]) -> tuple[str, list[Json]] | None:
    """The token in the middle of a stream, and the steps that a client was told before it; None without one."""
    told = Assembler()
    for event in events:
        if (token := event.get("continuation_token")) is not None:
            return token, told.steps
        told.feed(event)
    return None


async def gone_on_with(gateway: Gateway) -> tuple[str, list[Json], Reply]:
    """A stream, what it had told up to its checkpoint, and the interaction that went on from there."""
    streamed = await gateway.stream("A long story", headers=STEPS, wish=CHECKPOINT)
    found = checkpoint_of(streamed.events)
    assert found is not None
    token, told = found
    body = {"model": MODEL, "continuation_token": token, "previous_interaction_id": streamed.id}
    hop = await gateway.post(body, **STEPS)
    assert hop.status == 200, hop.raw
    assert told != (await gateway.got(streamed.id, headers=STEPS)).steps
    return streamed.id, told, hop
