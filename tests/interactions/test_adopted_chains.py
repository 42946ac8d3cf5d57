"""Conversations that were begun elsewhere: taken in whole and once, and rebuilt as any other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest

from tests.interactions.conversations import WEATHER, assert_quotes, said
from tests.interactions.elsewhere import conversation, made
from tests.support.gateway import LEGACY, MODEL, Gateway
from tests.support.gateways import StartEmulator, StartGateway, gateway_starter
from tests.support.replies import Json
from tests.support.upstreams import Emulated

TEXTS = ("One apple", "Two pears", "Three plums", "Four figs")


@pytest.fixture
async def gateway(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service with one deployment, looking there for what it does not know."""
    return await start_gateway(upstream, adopt_unknown=True)


def spoken(answers: list[Json]) -> list[Json]:
    """The whole conversation as a rebuild is to send it."""
    return [
        step for text, answer in zip(TEXTS, answers, strict=False) for step in (said(text), *answer["steps"])
    ]


async def assert_rebuilt_from(
    gateway: Gateway, upstream: Emulated, conversation: list[Json], name: str
) -> None:
    """Upstream forgets everything; a follow-up then carries the conversation, each step once."""
    upstream.forget()
    await gateway.ask("The end", previous_interaction_id=name)
    assert upstream.creates[-1]["input"] == [*conversation, said("The end")]
    assert "previous_interaction_id" not in upstream.creates[-1]


async def test_a_chain_is_taken_in_once_however_many_ask(gateway: Gateway, upstream: Emulated) -> None:
    answers = await conversation(upstream, *TEXTS)
    tip = answers[-1]["id"]
    asked = [gateway.got(tip) if number % 2 else gateway.events(tip) for number in range(20)]
    await asyncio.gather(*asked)
    assert sorted(seen["path"].rpartition("/")[2] for seen in upstream.calls("GET")) == sorted(
        answer["id"] for answer in answers
    )
    rows = {row["upstream_id"]: row for row in await gateway.database.rows()}
    chain = [rows[answer["id"]] for answer in answers]
    assert len(rows) == 4
    assert [row["depth"] for row in chain] == [0, 1, 2, 3]
    assert [row["previous_id"] for row in chain] == [None, *(row["id"] for row in chain[:3])]
    assert {row["root_id"] for row in chain[1:]} == {chain[0]["id"]}
    for answer in answers:
        assert (await gateway.got(answer["id"])).steps == answer["steps"]
    await assert_rebuilt_from(gateway, upstream, spoken(answers), tip)


async def test_followers_of_an_unknown_interaction_are_all_served(
    gateway: Gateway, upstream: Emulated
) -> None:
    answers = await conversation(upstream, *TEXTS)
    replies = await asyncio.gather(
        *(gateway.ask(f"Follower {n}", previous_interaction_id=answers[-1]["id"]) for n in range(20))
    )
    for number, reply in enumerate(replies):
        assert_quotes(reply, *TEXTS, f"Follower {number}")
    assert len(upstream.calls("GET")) == 4
    assert await gateway.database.count() == 24


async def test_replicas_take_a_chain_in_once(
    running: AsyncExitStack, postgres_url: str, upstream: Emulated
) -> None:
    start = gateway_starter(running, postgres_url)
    one, two = [await start(upstream, adopt_unknown=True) for _ in range(2)]
    answers = await conversation(upstream, *TEXTS)
    # Whoever asks for an ancestor writes some of the same rows at the same time.
    names = [answers[2]["id"], answers[3]["id"]]
    replies = await asyncio.gather(
        *(gateway.got(name) for _ in range(10) for gateway in (one, two) for name in names)
    )
    assert len({reply.id for reply in replies}) == 2
    assert await one.database.count() == 4
    await assert_rebuilt_from(two, upstream, spoken(answers), names[1])


async def test_branches_share_their_ancestors(gateway: Gateway, upstream: Emulated) -> None:
    root, left = await conversation(upstream, "One apple", "Two pears")
    right = await made(upstream, "Three plums", previous_interaction_id=root["id"])
    replies = await asyncio.gather(gateway.got(left["id"]), gateway.got(right["id"]))
    assert len({reply.body["previous_interaction_id"] for reply in replies}) == 1
    assert await gateway.database.count() == 3


async def test_a_chain_goes_on_from_what_the_store_has(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    second = await made(upstream, "Two pears", previous_interaction_id=first.upstream_id)
    third = await made(upstream, "Three plums", previous_interaction_id=second["id"])
    reply = await gateway.got(third["id"])
    assert len(upstream.calls("GET")) == 2
    row = await gateway.database.row(reply.id)
    assert (row["depth"], (await gateway.got(second["id"])).body["previous_interaction_id"]) == (2, first.id)
    await assert_rebuilt_from(
        gateway,
        upstream,
        [
            said("One apple"),
            *first.steps,
            said("Two pears"),
            *second["steps"],
            said("Three plums"),
            *third["steps"],
        ],
        reply.id,
    )


async def test_a_link_that_was_deleted_here_is_named(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    second = await made(upstream, "Two pears", previous_interaction_id=first.upstream_id)
    await gateway.delete(first.id)
    reply = await gateway.got(second["id"])
    upstream.forget()
    refused = await gateway.refused(400, "Three", previous_interaction_id=reply.id)
    assert first.id in refused.error["message"]


async def test_a_chain_begins_where_upstreams_memory_ends(gateway: Gateway, upstream: Emulated) -> None:
    answers = await conversation(upstream, *TEXTS)
    upstream.forget(answers[0]["id"])
    reply = await gateway.got(answers[-1]["id"])
    assert await gateway.database.count() == 3
    oldest = await gateway.got(answers[1]["id"])
    assert oldest.body["previous_interaction_id"] == answers[0]["id"]
    row = await gateway.database.row(oldest.id)
    assert (row["previous_id"], row["depth"]) == (None, 0)
    assert orjson.loads(row["attempts"])[0]["lost_previous"] == answers[0]["id"]
    assert (await gateway.database.row(reply.id))["root_id"] == row["id"]


async def test_a_conversation_whose_beginning_is_lost_is_not_sent_as_if_it_were_whole(
    gateway: Gateway, upstream: Emulated
) -> None:
    answers = await conversation(upstream, *TEXTS)
    upstream.forget(answers[0]["id"])
    reply = await gateway.ask("Five figs", previous_interaction_id=answers[-1]["id"])
    upstream.forget()
    upstream.clear()
    refused = await gateway.refused(400, "Six", previous_interaction_id=reply.id)
    assert (await gateway.got(answers[1]["id"])).id in refused.error["message"]
    assert len(upstream.creates) == 1


async def test_an_outage_in_the_middle_does_not_shorten_a_chain(gateway: Gateway, upstream: Emulated) -> None:
    answers = await conversation(upstream, *TEXTS)
    upstream.fault("status;code=503", method="GET", path=answers[1]["id"])
    assert (await gateway.get(answers[-1]["id"])).status == 503
    assert await gateway.database.count() == 0
    await gateway.got(answers[-1]["id"])
    assert await gateway.database.count() == 4


async def test_an_import_that_was_cut_short_is_gone_on_with(
    gateway: Gateway, upstream: Emulated, start_gateway: StartGateway
) -> None:
    answers = await conversation(upstream, *TEXTS)
    # Ancestors are written first, so this is what a process that died may have left.
    await gateway.got(answers[1]["id"])
    await gateway.stop()
    again = await start_gateway(upstream, adopt_unknown=True)
    upstream.clear()
    await again.got(answers[-1]["id"])
    assert len(upstream.calls("GET")) == 2
    await assert_rebuilt_from(again, upstream, spoken(answers), answers[-1]["id"])


@pytest.mark.parametrize(
    "shown", [{}, {"get_echoes_input": True}, {"get_echoes_input": True, "get_includes_input": False}]
)
async def test_the_input_is_taken_from_wherever_upstream_shows_it(
    start_emulator: StartEmulator, start_gateway: StartGateway, shown: dict[str, bool]
) -> None:
    upstream = await start_emulator(**shown)
    gateway = await start_gateway(upstream, adopt_unknown=True)
    history = [
        said("One apple"),
        {"type": "model_output", "content": [{"type": "text", "text": "Yes."}]},
        said("Two"),
    ]
    first = await made(upstream, history)
    second = await made(upstream, "Three", previous_interaction_id=first["id"])
    reply = await gateway.got(second["id"], include_input="true")
    assert reply.body["steps"] == [said("Three"), *second["steps"]]
    told = [*history, *first["steps"], said("Three"), *second["steps"]]
    await assert_rebuilt_from(gateway, upstream, told, second["id"])


async def test_an_input_that_upstream_does_not_show_is_not_invented(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(get_includes_input=False)
    gateway = await start_gateway(upstream, adopt_unknown=True)
    first, second = await conversation(upstream, "One apple", "Two pears")
    follow_up = await gateway.ask("Three", previous_interaction_id=second["id"])
    assert_quotes(follow_up, "One apple", "Two pears", "Three")
    upstream.forget()
    reply = await gateway.refused(400, "Four", previous_interaction_id=follow_up.id)
    assert (await gateway.got(first["id"])).id in reply.error["message"]


async def test_a_function_loop_from_elsewhere_is_rebuilt(gateway: Gateway, upstream: Emulated) -> None:
    asked = await made(upstream, "The weather?", tools=[WEATHER])
    (call,) = [step for step in asked["steps"] if step["type"] == "function_call"]
    result = {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": "sunny"}
    told = await made(upstream, [result], previous_interaction_id=asked["id"], tools=[WEATHER])
    conversation = [said("The weather?"), *asked["steps"], result, *told["steps"]]
    await gateway.got(told["id"])
    await assert_rebuilt_from(gateway, upstream, conversation, told["id"])


async def test_continuations_from_elsewhere_have_no_input_and_are_rebuilt(
    gateway: Gateway, upstream: Emulated
) -> None:
    upstream.behave("continuation;hops=2")
    first = await made(upstream, "One apple")
    upstream.calm()
    assert first["status"] == "requires_continuation"
    second = await made(
        upstream,
        ...,
        previous_interaction_id=first["id"],
        continuation_token=first["continuation_token"],
    )
    await gateway.got(second["id"])
    told = [said("One apple"), *first["steps"], *second["steps"]]
    await assert_rebuilt_from(gateway, upstream, told, second["id"])


async def test_a_legacy_caller_goes_on_with_a_chain_from_elsewhere(
    gateway: Gateway, upstream: Emulated
) -> None:
    answers = await conversation(upstream, *TEXTS)
    body = {"model": MODEL, "input": "Five", "previous_interaction_id": answers[-1]["id"]}
    reply = await gateway.post(body, **LEGACY)
    assert reply.status == 200
    stored = await gateway.got(reply.body["id"])
    assert_quotes(stored, *TEXTS, "Five")
    told = [*spoken(answers), said("Five"), *stored.steps]
    await assert_rebuilt_from(gateway, upstream, told, stored.id)


async def test_an_agents_run_from_elsewhere_is_told_to_a_model(gateway: Gateway, upstream: Emulated) -> None:
    run = await made(upstream, "Write a report", agent="antigravity-preview-09-2026", environment="remote")
    await gateway.got(run["id"])
    upstream.forget()
    await gateway.ask("Sum up", previous_interaction_id=run["id"])
    sent = upstream.creates[-1]["input"]
    assert sent[0] == said("Write a report")
    assert {step["type"] for step in sent[1:-1]} == {"model_output"}
