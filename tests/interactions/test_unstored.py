"""`store:false`: recorded for audit and marked, but neither read nor built upon; continuations (contract 4.7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.interactions.conversations import assert_quotes, said
from tests.support.gateway import MODEL, STEPS, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Reply
from tests.support.upstreams import Emulated, deployment


async def test_the_answer_has_an_id_of_the_services(gateway: Gateway) -> None:
    made = await gateway.ask("Between us", store=False)
    assert made.id.startswith("int_")
    assert made.headers["x-interaction-id"] == made.id
    assert "x-upstream-interaction-id" not in made.headers


async def test_a_stream_has_the_services_id_in_every_event(gateway: Gateway) -> None:
    streamed = await gateway.stream("Between us", store=False)
    assert streamed.final["id"] == streamed.id == streamed.headers["x-interaction-id"]
    assert streamed.id.startswith("int_")


async def test_it_is_recorded_and_marked(gateway: Gateway) -> None:
    made, streamed = await gateway.ask("Unary", store=False), await gateway.stream("Streamed", store=False)
    for name, text in ((made.id, "Unary"), (streamed.id, "Streamed")):
        row = await gateway.database.row(name)
        assert (row["store"], row["upstream_stored"], row["upstream_id"]) == (False, False, None)
        assert row["status"] == "completed"
        assert row["total_tokens"] > 0
        stored = orjson.loads(await gateway.database.response(name) or b"")
        assert text in stored["steps"][-1]["content"][0]["text"]


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_neither_read_nor_built_upon(gateway: Gateway, stream: bool) -> None:
    name = (await gateway.create(store=False, stream=stream)).headers["x-interaction-id"]
    for reply in (
        await gateway.get(name),
        await gateway.get(name, stream="true"),
        await gateway.delete(name),
        await gateway.cancel(name),
        await gateway.create(previous_interaction_id=name),
    ):
        assert (reply.status, reply.error["code"]) == (404, "not_found")


@pytest.mark.parametrize("stream", [False, True])
async def test_it_can_be_held_and_what_is_recorded_of_it_deleted(gateway: Gateway, stream: bool) -> None:
    name = (await gateway.create(store=False, stream=stream)).headers["x-interaction-id"]
    recorded = f"/api/interactions/{name}"
    assert (await gateway.request("PUT", f"{recorded}/hold", data=b'{"reason": "case 7"}')).status == 200
    refused = await gateway.request("DELETE", recorded)
    assert (refused.status, refused.error["code"]) == (400, "failed_precondition")
    assert (await gateway.request("DELETE", f"{recorded}/hold")).status == 200
    deleted = await gateway.request("DELETE", recorded)
    assert (deleted.status, deleted.headers["x-interaction-id"]) == (200, name)
    assert (await gateway.request("DELETE", recorded)).status == 404
    assert await gateway.database.response(name) is None
    assert (await gateway.database.row(name))["total_tokens"] > 0


async def test_it_may_point_at_a_stored_one(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    second = await gateway.ask("Two", store=False, previous_interaction_id=first.id)
    assert_quotes(second, "One apple", "Two")
    upstream.forget()
    third = await gateway.ask("Three", store=False, previous_interaction_id=first.id)
    assert_quotes(third, "One apple", "Three")
    assert upstream.creates[-1]["store"] is False


async def continued(gateway: Gateway, reply: Reply, **members: object) -> Reply:
    """The request that an SDK sends after `requires_continuation`."""
    token = reply.body["continuation_token"]
    body = {"model": MODEL, "continuation_token": token, **members}
    return await gateway.post(body, **STEPS)


async def test_an_answer_is_continued_without_input(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("A long story", wish="continuation;hops=3")
    assert first.body["status"] == "requires_continuation"
    second = await continued(gateway, first, previous_interaction_id=first.id)
    assert second.body["status"] == "requires_continuation"
    third = await continued(gateway, second, previous_interaction_id=second.id)
    assert third.body["status"] == "completed"
    assert upstream.creates[1:] == [
        {
            "model": MODEL,
            "continuation_token": reply.body["continuation_token"],
            "previous_interaction_id": reply.upstream_id,
        }
        for reply in (first, second)
    ]
    whole = await gateway.ask("A long story")
    assert first.text + second.text + third.text == whole.text
    assert (await gateway.got(third.id, headers=STEPS)).body == third.body


async def test_continuations_are_links_of_the_chain(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("A long story", wish="continuation")
    second = await continued(gateway, first, previous_interaction_id=first.id)
    upstream.forget()
    third = await gateway.ask("And then?", previous_interaction_id=second.id)
    assert upstream.creates[-1]["input"] == [
        said("A long story"),
        *first.steps,
        *second.steps,
        said("And then?"),
    ]
    assert_quotes(third, "A long story", "And then?")


async def test_an_unstored_answer_is_continued_with_its_input(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("A long story", store=False, wish="continuation")
    second = await continued(gateway, first, input="A long story", store=False)
    assert second.status == 200
    assert second.body["status"] == "completed"
    assert upstream.creates[-1] == {
        "model": MODEL,
        "continuation_token": first.body["continuation_token"],
        "input": "A long story",
        "store": False,
    }


@pytest.mark.parametrize("choice", ["of the request", "of the configuration"])
async def test_an_answer_whose_history_is_local_is_continued(
    start_gateway: StartGateway, upstream: Emulated, choice: str
) -> None:
    chosen = choice == "of the request"
    gateway = await start_gateway(upstream, history="upstream" if chosen else "local")
    headers = {**STEPS, "x_interactions_history": "local"} if chosen else STEPS
    before = (await gateway.post({"model": MODEL, "input": "I like stories"}, **headers)).body
    question = {"model": MODEL, "input": "A long story", "previous_interaction_id": before["id"]}
    upstream.behave("continuation;hops=3")
    hops = [await gateway.post(question, **headers)]
    upstream.calm()
    while (token := hops[-1].body.get("continuation_token")) is not None:
        going_on = {"continuation_token": token, "previous_interaction_id": hops[-1].id}
        hops.append(await gateway.post({"model": MODEL, **going_on}, **headers))
        assert hops[-1].status == 200, hops[-1].raw
        # Upstream stored nothing that the token could stand beside but the question itself (contract 4.7).
        assert upstream.creates[-1] == {**upstream.creates[1], "continuation_token": token}
    assert [hop.body["status"] for hop in hops] == ["requires_continuation"] * 2 + ["completed"]
    assert all(body["store"] is False for body in upstream.creates)
    after = await gateway.ask("And then?", previous_interaction_id=hops[-1].id)
    assert_quotes(after, "I like stories", "A long story", "And then?")
    made = [step for hop in hops for step in hop.steps]
    assert upstream.creates[-1]["input"] == [*upstream.creates[1]["input"], *made, said("And then?")]


@pytest.mark.parametrize("remembered", [False, True])
async def test_an_unstored_answer_is_continued_though_upstream_has_lost_what_came_before(
    gateway: Gateway, upstream: Emulated, remembered: bool
) -> None:
    before = await gateway.ask("I like stories")
    question = {"input": "A long story", "previous_interaction_id": before.id, "store": False}
    if remembered:
        upstream.forget()
    upstream.behave("continuation")
    first = await gateway.post({"model": MODEL, **question}, **STEPS)
    upstream.calm()
    upstream.forget()
    second = await continued(gateway, first, **question)
    assert second.status == 200, second.raw
    assert second.body["status"] == "completed"
    assert upstream.creates[-1]["input"] == [said("I like stories"), *before.steps, said("A long story")]
    assert upstream.creates[-1]["continuation_token"] == first.body["continuation_token"]


async def test_a_continuation_is_never_rebuilt(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("A long story", wish="continuation")
    upstream.forget()
    upstream.clear()
    reply = await continued(gateway, first, previous_interaction_id=first.id)
    assert reply.status in (400, 404)
    assert reply.error
    assert len(upstream.requests) == 1


async def test_a_token_of_another_deployment_is_refused(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(
        deployments=(
            deployment(upstream, "first", MODEL, key="key-1"),
            deployment(upstream, "second", MODEL, key="key-2"),
        )
    )
    first = await gateway.ask("A long story", model="first", wish="continuation")
    reply = await continued(gateway, first, model="second", previous_interaction_id=first.id)
    assert (reply.status, reply.error["code"]) == (400, "failed_precondition")
    assert len(upstream.requests) == 1


async def test_a_stream_is_continued_from_a_checkpoint_while_it_still_runs(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream)
    async with gateway.live("A long story", headers=STEPS, wish="checkpoint;after=6") as live:
        await live.next()
        upstream.clock.advance(600)
        while "continuation_token" not in (event := await live.until("interaction.status_update")):
            pass
        said_before = "".join(
            event["delta"].get("text", "") for event in live.events if event["event_type"] == "step.delta"
        )
        live.leave()
        again = await gateway.post(
            {
                "model": MODEL,
                "continuation_token": event["continuation_token"],
                "previous_interaction_id": event["interaction_id"],
            },
            **STEPS,
        )
        assert again.status == 200, again.raw
        upstream.clock.advance(1e6)
    whole = await gateway.finished(live.id)
    assert said_before + again.text == whole.text
    # The conversation has what follows the checkpoint once, though both interactions have it.
    upstream.forget()
    await gateway.ask("And then?", previous_interaction_id=again.id)
    sent = upstream.creates[-1]["input"]
    told = [
        item["text"] for step in sent if step["type"] == "model_output" for item in step.get("content") or []
    ]
    assert "".join(told) == whole.text
    assert [step["content"][0]["text"] for step in sent if step["type"] == "user_input"] == [
        "A long story",
        "And then?",
    ]


async def test_a_continuation_streams(gateway: Gateway) -> None:
    first = await gateway.ask("A long story", wish="continuation")
    second = await gateway.stream(
        ..., continuation_token=first.body["continuation_token"], previous_interaction_id=first.id
    )
    assert second.final["status"] == "completed"
    assert first.text + second.text == (await gateway.ask("A long story")).text


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_stream_is_continued_elsewhere_though_what_it_told_is_not_recorded_yet(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    upstream.hold()
    gateway, other = await start_gateway(upstream), await start_gateway(upstream)

    async def sent() -> bool:
        return len(upstream.requests) == 1

    async def held() -> AsyncIterator[None]:
        await eventually(sent)
        async with gateway.database.held():
            upstream.release()
            yield

    holding = held()
    locked = asyncio.ensure_future(anext(holding))
    async with gateway.live("A long story", headers=STEPS, wish="checkpoint;after=6") as live:
        await locked
        await live.next()
        upstream.clock.advance(600)
        while "continuation_token" not in (event := await live.until("interaction.status_update")):
            pass
        token = {"continuation_token": event["continuation_token"], "previous_interaction_id": live.id}
        going_on = asyncio.create_task(other.post({"model": MODEL, **token}, **STEPS))
        done, _ = await asyncio.wait({going_on}, timeout=0.2)
        assert not done
        await anext(holding, None)
        assert (await going_on).status == 200, (await going_on).raw
        upstream.clock.advance(1e6)
        await live.until("interaction.completed")
