"""Answers that come in parts."""

from __future__ import annotations

from tests.emulator.client import MODEL, Upstream, streamed_text, text_of

BARE = "Request contains an invalid argument."


async def test_an_answer_is_spread_over_interactions(upstream: Upstream) -> None:
    whole = await upstream.create("Hello")
    first = await upstream.create("Hello", wish="continuation;hops=3")
    parts, answer = [first], first
    while answer["status"] == "requires_continuation":
        token, name = answer["continuation_token"], answer["id"]
        response = await upstream.post(
            {"model": MODEL, "continuation_token": token, "previous_interaction_id": name}
        )
        answer = await response.json()
        assert answer["previous_interaction_id"] == name
        parts.append(answer)
    assert len(parts) == 3
    assert "".join(text_of(part) for part in parts) == text_of(whole)
    assert (answer["status"], "continuation_token" in answer) == ("completed", False)
    for part in parts:
        usage = part["usage"]
        kinds = ("input", "output", "thought", "tool_use")
        assert usage["total_tokens"] == sum(usage[f"total_{kind}_tokens"] for kind in kinds)
    follow_up = text_of(await upstream.create("And?", previous_interaction_id=answer["id"]))
    assert "I saw 2 user turns and 1 model turn." in follow_up


async def test_a_continuation_without_a_store_carries_the_input_again(upstream: Upstream) -> None:
    first = await upstream.create("Hello", store=False, wish="continuation")
    token = first["continuation_token"]
    rest = await upstream.create("Hello", store=False, continuation_token=token)
    assert text_of(first) + text_of(rest) == text_of(await upstream.create("Hello"))


async def test_a_token_belongs_to_its_interaction_and_key(upstream: Upstream) -> None:
    first = await upstream.create("Hello", wish="continuation")
    other = await upstream.create("Other")
    token = first["continuation_token"]
    assert (await upstream.refused(continuation_token=token))["message"] == BARE
    error = await upstream.refused(continuation_token=token, previous_interaction_id=other["id"])
    assert error["message"] == BARE
    body = {"model": MODEL, "continuation_token": token, "previous_interaction_id": first["id"]}
    assert (await upstream.post(body, x_goog_api_key="key-b")).status == 400
    assert (await upstream.post(body)).status == 200
    assert (await upstream.post(body)).status == 200


async def test_a_checkpoint_stands_for_the_rest_of_the_text(upstream: Upstream) -> None:
    events = await upstream.stream("Hello", wish="checkpoint;after=8")
    (checkpoint,) = (position for position, event in enumerate(events) if "continuation_token" in event)
    assert checkpoint == 8
    before, name = streamed_text(events[:checkpoint]), events[0]["interaction"]["id"]
    token = events[checkpoint]["continuation_token"]
    rest = await upstream.create(continuation_token=token, previous_interaction_id=name, input=None)
    assert before + text_of(rest) == streamed_text(events)
