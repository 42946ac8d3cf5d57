"""Follow-ups while upstream still holds the conversation: its id is sent, and nothing twice."""

from __future__ import annotations

import pytest

from tests.interactions.conversations import WEATHER, result_of, talk
from tests.support.gateway import MODEL, Gateway
from tests.support.gateways import StartGateway
from tests.support.upstreams import Emulated, deployment


async def test_upstreams_id_is_sent_and_no_history(gateway: Gateway, upstream: Emulated) -> None:
    first, second, third = await talk(gateway, "One apple", "Two pears", "Three plums")
    assert [body.get("previous_interaction_id") for body in upstream.creates] == [
        None,
        first.upstream_id,
        second.upstream_id,
    ]
    assert [body["input"] for body in upstream.creates] == ["One apple", "Two pears", "Three plums"]
    for text in ("I saw 3 user turns", "One apple", "Two pears", "Three plums"):
        assert text in third.text


async def test_answers_name_their_parent_by_the_services_id(gateway: Gateway) -> None:
    first, second = await talk(gateway, "One", "Two")
    assert "previous_interaction_id" not in first.body
    assert second.body["previous_interaction_id"] == first.id
    assert (await gateway.got(second.id)).body["previous_interaction_id"] == first.id
    streamed = await gateway.stream("Three", previous_interaction_id=second.id)
    assert streamed.final["previous_interaction_id"] == second.id
    assert (await gateway.got(streamed.id)).body["previous_interaction_id"] == second.id
    assert (await gateway.events(streamed.id)).final["previous_interaction_id"] == second.id


async def test_the_parent_may_be_named_by_upstreams_id(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    second = await gateway.ask("Two", previous_interaction_id=first.upstream_id)
    assert upstream.creates[-1]["previous_interaction_id"] == first.upstream_id
    assert second.body["previous_interaction_id"] == first.id
    assert "One apple" in second.text


async def test_the_record_keeps_its_place_in_the_chain(gateway: Gateway) -> None:
    replies = await talk(gateway, "One", "Two", "Three")
    rows = [await gateway.database.row(reply.id) for reply in replies]
    assert [row["depth"] for row in rows] == [0, 1, 2]
    assert [row["previous_id"] for row in rows] == [None, rows[0]["id"], rows[1]["id"]]
    assert {row["root_id"] for row in rows[1:]} == {rows[0]["id"]}


async def test_a_chain_may_branch(gateway: Gateway) -> None:
    root = await gateway.ask("The root")
    left = await gateway.ask("To the left", previous_interaction_id=root.id)
    right = await gateway.ask("To the right", previous_interaction_id=root.id)
    assert "To the left" in left.text
    assert "To the right" not in left.text
    assert "To the right" in right.text
    assert "To the left" not in right.text


async def test_a_stream_continues_a_body_and_a_body_a_stream(gateway: Gateway) -> None:
    first = await gateway.ask("One apple")
    second = await gateway.stream("Two pears", previous_interaction_id=first.id)
    third = await gateway.ask("Three", previous_interaction_id=second.id)
    assert "One apple" in second.text
    assert "One apple" in third.text
    assert "Two pears" in third.text


async def test_a_follow_up_may_come_the_moment_the_stream_ends(gateway: Gateway) -> None:
    async with gateway.live("One apple") as live:
        completed = await live.until("interaction.completed")
        name = completed["interaction"]["id"]
        assert "One apple" in (await gateway.ask("Two", previous_interaction_id=name)).text


async def test_only_the_history_is_inherited(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One", system_instruction="Be brief", generation_config={"seed": 7})
    await gateway.ask("Two", previous_interaction_id=first.id)
    assert upstream.creates[-1] == {
        "model": MODEL,
        "input": "Two",
        "previous_interaction_id": first.upstream_id,
    }


async def test_a_follow_up_goes_to_the_deployment_that_holds_its_parent(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    twins = [deployment(upstream, MODEL, key=f"key-{name}", id=name) for name in "abc"]
    gateway = await start_gateway(deployments=tuple(twins))
    for _ in range(4):
        replies = await talk(gateway, "One apple", "Two pears", "Three")
        assert "One apple" in replies[-1].text
        rows = [await gateway.database.row(reply.id) for reply in replies]
        assert len({row["deployment_id"] for row in rows}) == 1
    assert all(isinstance(body["input"], str) for body in upstream.creates)


async def test_a_function_is_called_and_its_result_given(gateway: Gateway, upstream: Emulated) -> None:
    asked = await gateway.ask("The weather in Oslo?", tools=[WEATHER])
    assert asked.body["status"] == "requires_action"
    assert (await gateway.database.row(asked.id))["status"] == "requires_action"
    result = result_of(asked, "sunny")
    told = await gateway.ask([result], previous_interaction_id=asked.id, tools=[WEATHER])
    assert told.body["status"] == "completed"
    assert "sunny" in told.text
    assert upstream.creates[-1]["previous_interaction_id"] == asked.upstream_id


@pytest.mark.parametrize("wish", ["failed", "budget_exceeded"])
async def test_what_did_not_end_well_cannot_be_continued(
    gateway: Gateway, upstream: Emulated, wish: str
) -> None:
    ended = await gateway.ask(wish=wish)
    assert ended.body["status"] == wish
    reply = await gateway.refused(400, previous_interaction_id=ended.id)
    assert wish in reply.error["message"]
    assert len(upstream.creates) == 1
    assert await gateway.database.count() == 1


async def test_what_still_runs_or_was_cancelled_cannot_be_continued(
    gateway: Gateway, upstream: Emulated
) -> None:
    running = await gateway.ask(background=True, wish="background;queued=0;running=500")
    reply = await gateway.refused(400, previous_interaction_id=running.id)
    assert "in_progress" in reply.error["message"]
    assert (await gateway.cancel(running.id)).status == 200
    reply = await gateway.refused(400, previous_interaction_id=running.id)
    assert "cancelled" in reply.error["message"]
    assert len(upstream.creates) == 1


async def test_what_is_incomplete_can_be_continued(gateway: Gateway) -> None:
    cut = await gateway.ask("A long story", generation_config={"max_output_tokens": 5})
    assert cut.body["status"] == "incomplete"
    assert "A long story" in (await gateway.ask("Go on", previous_interaction_id=cut.id)).text


@pytest.mark.parametrize("name", ["int_unknown", "v1_unknown", "int_" + "a" * 26])
async def test_an_unknown_parent_is_not_found(gateway: Gateway, upstream: Emulated, name: str) -> None:
    for stream in (False, True):
        reply = await gateway.refused(404, previous_interaction_id=name, stream=stream)
        assert reply.error["code"] == "not_found"
        assert name in reply.error["message"]
    assert upstream.requests == []
    assert await gateway.database.count() == 0


async def test_another_chain_member_may_change_the_model(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(
        deployments=(
            deployment(upstream, "fast", "gemini-2.5-flash"),
            deployment(upstream, "deep", "gemini-3.1-pro-preview"),
        )
    )
    first = await gateway.ask("One apple", model="fast")
    second = await gateway.ask("Two", model="deep", previous_interaction_id=first.id)
    assert second.body["model"] == "gemini-3.1-pro-preview"
    assert "One apple" in second.text
