"""Clients that send the whole conversation with every turn: what is new is stored, and the whole is told."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from service.wire import ids
from tests.interactions.conversations import said
from tests.support.gateway import LEGACY, Gateway
from tests.support.replies import Json, Reply
from tests.support.upstreams import Emulated

IMAGE = base64.b64encode(bytes(range(256)) * 800).decode()


def looked_at(text: str) -> Json:
    """A user turn with an image."""
    picture = {"type": "image", "mime_type": "image/png", "data": IMAGE}
    return {"type": "user_input", "content": [picture, {"type": "text", "text": text}]}


async def converse(
    gateway: Gateway, first: Json, turns: int, **members: Any
) -> list[tuple[list[Json], Reply]]:
    """What was sent in each turn, and what came back."""
    sent: list[tuple[list[Json], Reply]] = []
    steps = [first]
    for number in range(turns):
        reply = await gateway.ask(steps, **members)
        sent.append((steps, reply))
        steps = [*steps, *reply.steps, said(f"Question {number}: " + "and what then? " * 20)]
    return sent


async def stored_bytes(gateway: Gateway, sent: list[tuple[list[Json], Reply]]) -> list[int]:
    """What the request of each turn takes, before compression."""
    return [len(await gateway.database.request(reply.id) or b"") for _, reply in sent]


async def test_an_image_sent_again_with_every_turn_is_stored_once(
    gateway: Gateway, upstream: Emulated
) -> None:
    sent = await converse(gateway, looked_at("What is this?"), 6)
    first, *later = await stored_bytes(gateway, sent)
    assert first > len(IMAGE)
    assert max(later) < 3000
    for (steps, reply), body in zip(sent, upstream.creates, strict=True):
        assert body["input"] == steps
        assert (await gateway.got(reply.id, include_input="true")).body["input"] == steps


async def test_a_follow_up_on_a_resent_history_is_rebuilt_from_all_of_it(
    gateway: Gateway, upstream: Emulated
) -> None:
    sent = await converse(gateway, looked_at("What is this?"), 5)
    steps, reply = sent[-1]
    upstream.forget()
    await gateway.ask("And now?", previous_interaction_id=reply.id)
    assert upstream.creates[-1]["input"] == [*steps, *reply.steps, said("And now?")]


async def test_earlier_turns_can_be_deleted(gateway: Gateway, upstream: Emulated) -> None:
    sent = await converse(gateway, looked_at("What is this?"), 5)
    for _, reply in sent[:-1]:
        assert (await gateway.delete(reply.id)).status == 200
        assert (await gateway.get(reply.id)).status == 404
    steps, last = sent[-1]
    assert (await gateway.got(last.id, include_input="true")).body["input"] == steps
    assert (await gateway.delete(last.id)).status == 200
    for _, reply in sent:
        assert await gateway.database.bodies(reply.id) == {}


async def test_what_is_not_to_be_stored_upstream_is_shared_as_well(gateway: Gateway) -> None:
    sent = await converse(gateway, looked_at("What is this?"), 4, store=False)
    assert max((await stored_bytes(gateway, sent))[1:]) < 3000


async def test_turns_of_legacy_callers_are_shared_too(gateway: Gateway, upstream: Emulated) -> None:
    turns: list[Json] = []
    sent: list[tuple[list[Json], Reply]] = []
    for number in range(6):
        turns = [*turns, {"role": "user", "content": f"Question {number}: " + "and what then? " * 60}]
        reply = await gateway.post({"model": "gemini-2.5-flash", "input": turns}, **LEGACY)
        assert reply.status == 200, reply.raw
        sent.append((turns, reply))
        turns = [*turns, {"role": "model", "content": reply.body["outputs"]}]
    assert max((await stored_bytes(gateway, sent))[3:]) < 3000
    steps, last = sent[-1]
    assert (await gateway.got(last.id, headers=LEGACY, include_input="true")).body["input"] == steps


@pytest.mark.parametrize("content", ["x" * 5000, [said("short")]])
async def test_other_requests_are_stored_as_they_are(gateway: Gateway, content: Any) -> None:
    replies = [await gateway.ask(content) for _ in range(2)]
    one, two = [await gateway.database.request(reply.id) for reply in replies]
    assert one == two
    assert len(one or b"") > len(str(content))


async def test_streams_share_what_unary_turns_have_sent(gateway: Gateway) -> None:
    sent = await converse(gateway, looked_at("What is this?"), 3)
    steps, reply = sent[-1]
    streamed = await gateway.stream([*steps, *reply.steps, said("And now?")])
    assert ids.from_text(streamed.id) is not None
    assert len(await gateway.database.request(streamed.id) or b"") < 3000
