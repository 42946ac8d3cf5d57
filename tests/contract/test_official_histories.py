"""Official clients chain what they please, whether upstream keeps the conversation or not (contract 5.4, 5.5).

Every kind of conversation is held unary and streamed, on SQLite and on PostgreSQL: half of the clients hold it unary on
the one and streamed on the other, and half the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from tests.contract.conversing import Conversation, Turn, read_back
from tests.contract.kinds import AGENTS, DEPLOYMENTS, KINDS
from tests.contract.official import API_KEY, SDKS, Client, Process, Processes, Sdk, SdkError
from tests.support.cutting import cutting
from tests.support.gateway import Gateway
from tests.support.gateways import StartGateway
from tests.support.upstreams import Emulated, deployment

#: Events of a stream before the token in its middle.
BEFORE_CHECKPOINT = 8
CONTINUING = [sdk for sdk in SDKS if sdk.continues]
#: They can ask for what they do not know of; one for another generation cannot leave out the input.
BY_HAND = [sdk for sdk in SDKS if sdk.generation == "steps" and not sdk.continues]
#: Clients of both generations, as they take turns in one conversation.
MIXED = ("python-1.75.0", "python-3.4.0", "python-2.8.0", "js-3.1.0")

_WAYS = (
    (("sqlite", False), ("postgres", True)),
    (("sqlite", True), ("postgres", False)),
)


def _ways(*sdks: Sdk) -> pytest.MarkDecorator:
    """Two ways for each of these clients, which take turns in having the one pair or the other."""
    ways = [
        pytest.param(
            sdk, database, streamed, id=f"{sdk.name}-{'streamed' if streamed else 'unary'}-{database}"
        )
        for sdk, pair in zip(sdks, cycle(_WAYS), strict=False)
        for database, streamed in pair
    ]
    return pytest.mark.parametrize(
        ("sdk_process", "database_url", "streamed"), ways, indirect=["sdk_process", "database_url"]
    )


either_way = _ways(*SDKS)
either_continuing = _ways(*CONTINUING)
every_way = pytest.mark.parametrize(
    ("database_url", "streamed"), _WAYS[0] + _WAYS[1], indirect=["database_url"]
)


@pytest.fixture(name="near")
def near_fixture(sdk_process: Process, gateway: Gateway) -> Client:
    """An official client of the service in this process."""
    return Client(sdk_process, gateway.url, API_KEY)


@either_way
@pytest.mark.parametrize("kind", KINDS)
async def test_a_conversation_outlives_upstream(
    near: Client, gateway: Gateway, upstream: Emulated, kind: str, streamed: bool
) -> None:
    await _hold_twice([near], gateway, upstream, KINDS[kind], streamed=streamed)


@every_way
@pytest.mark.parametrize("kind", ["text", "search and function", "images"])
async def test_clients_of_both_generations_share_a_conversation(
    processes: Processes, gateway: Gateway, upstream: Emulated, kind: str, streamed: bool
) -> None:
    by_name = {sdk.name: sdk for sdk in SDKS}
    order = reversed(MIXED) if streamed else MIXED
    clients = [Client(processes.of(by_name[name]), gateway.url, API_KEY) for name in order]
    await _hold_twice(clients, gateway, upstream, KINDS[kind], streamed=streamed)


@either_way
async def test_another_deployment_goes_on_with_the_conversation(
    sdk_process: Process, upstream: Emulated, start_gateway: StartGateway, streamed: bool
) -> None:
    gateway = await start_gateway(
        deployments=(
            deployment(upstream, "first", "gemini-2.5-flash", key="key-1"),
            deployment(upstream, "second", "gemini-2.5-pro", key="key-2"),
        )
    )
    client = Client(sdk_process, gateway.url, API_KEY)
    await _hold_twice([client], gateway, upstream, DEPLOYMENTS, streamed=streamed)


async def test_a_conversation_branches(near: Client, gateway: Gateway, upstream: Emulated) -> None:
    for forgetful in (False, True):
        trunk = Conversation(gateway, upstream, forgetful)
        for text in ("The root.", "The trunk."):
            await trunk.say(near, Turn(text))
        branches = [trunk.fork() for _ in range(3)]
        for part in ("bough", "twig", "leaf"):
            turns = [Turn(f"The {part} of branch {number}.") for number in range(len(branches))]
            trunk.prepare()
            requests = [branch.request(near.sdk, turn) for branch, turn in zip(branches, turns, strict=True)]
            requests[1]["stream"] = True
            answers = await near.together(*requests)
            answers[1] = await read_back(near, answers[1])
            for branch, turn, answer in zip(branches, turns, answers, strict=True):
                await branch.add(near.sdk, turn, answer)
            if not forgetful:
                assert len(upstream.creates) == len(branches)


@either_continuing
async def test_an_answer_that_comes_in_hops_is_continued(
    near: Client, gateway: Gateway, upstream: Emulated, streamed: bool
) -> None:
    kept, lost = (Conversation(gateway, upstream, forgetful) for forgetful in (False, True))
    for conversation in (kept, lost):
        await conversation.say(near, Turn("I like long stories."), streamed=streamed)
        for text in ("Tell me one.", "Another one."):
            await conversation.say_in_hops(near, Turn(text), 3, streamed=streamed)
        await conversation.say(near, Turn("Which was longer?"), streamed=streamed)
    assert kept.steps == lost.steps


@_ways(*BY_HAND)
async def test_a_client_that_does_not_do_it_by_itself_can_continue(
    near: Client, gateway: Gateway, upstream: Emulated, streamed: bool
) -> None:
    conversation = Conversation(gateway, upstream, forgetful=True)
    await conversation.say(near, Turn("I like long stories."), streamed=streamed)
    await conversation.say_in_hops(near, Turn("Tell me one."), 3, streamed=streamed)
    await conversation.say(near, Turn("How did it end?"), streamed=streamed)


@either_continuing
async def test_what_a_client_goes_on_with_from_a_checkpoint_is_said_once(
    near: Client, gateway: Gateway, upstream: Emulated, streamed: bool
) -> None:
    """SDKs do so by themselves when the connection breaks behind one (contract 4.7)."""
    async with cutting(gateway.url) as network:
        for forgetful in (False, True):
            conversation = Conversation(gateway, upstream, forgetful)
            await conversation.say(near, Turn("I like long stories."), streamed=streamed)
            network.cuts, network.cut_after = 1, BEFORE_CHECKPOINT + 1
            await conversation.say_from_checkpoint(
                near.having(base_url=network.url), Turn("Tell me one."), after=BEFORE_CHECKPOINT
            )
            assert network.cuts == 0
            await conversation.say(near, Turn("Which was longer?"), streamed=streamed)


@either_way
@pytest.mark.parametrize("agent", AGENTS)
async def test_a_model_goes_on_from_the_report_of_an_agent(
    near: Client, gateway: Gateway, upstream: Emulated, agent: str, streamed: bool
) -> None:
    run = _for_sdk(near, AGENTS[agent])
    turns = [Turn("I like tea."), run, Turn("What does it say?"), Turn("And in short?")]
    for forgetful in (False, True):
        conversation = Conversation(gateway, upstream, forgetful)
        for turn in turns:
            # How a background run streams has nothing to do with its history.
            await conversation.say(near, turn, streamed=streamed and "background" not in turn.members)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_agent_goes_on_while_its_sandbox_lives_and_not_without_it(
    near: Client, gateway: Gateway, upstream: Emulated
) -> None:
    run = _for_sdk(near, AGENTS["antigravity"])
    conversation = Conversation(gateway, upstream, forgetful=False)
    await conversation.say(near, run)
    await conversation.say(near, replace(run, says="Add a page."))
    await conversation.say(near, Turn("What does it say?"))
    first, after_agent, after_model = conversation.links
    upstream.forget()
    upstream.clear()
    for link in (after_agent, after_model):
        follow_up = {"input": "Go on.", "previous_interaction_id": link.id}
        with pytest.raises(SdkError) as caught:
            await near.create(**run.members, **follow_up)
        assert caught.value.status == 409
        assert first.id in caught.value.message
        refused = await gateway.post({**AGENTS["antigravity"].members, **follow_up})
        assert (refused.status, refused.error["code"]) == (409, "aborted")
        assert first.id in refused.error["message"]
    # Nobody was told that there had been nothing before.
    assert all("previous_interaction_id" in body for body in upstream.creates)


@either_way
async def test_the_answer_says_where_the_history_came_from(
    near: Client, gateway: Gateway, upstream: Emulated, streamed: bool
) -> None:
    assert await _headers(gateway, streamed=streamed) == ("none", "0")
    conversation = Conversation(gateway, upstream, forgetful=False)
    for number, turn in enumerate(KINDS["search and function"], start=1):
        await conversation.say(near, turn, streamed=streamed)
        if conversation.pending:
            continue
        latest = {"previous_interaction_id": conversation.links[-1].id}
        assert await _headers(gateway, streamed=streamed, **latest) == ("upstream", str(number))
    latest = {"previous_interaction_id": conversation.links[-1].id}
    upstream.forget()
    assert await _headers(gateway, streamed=streamed, **latest) == ("rebuilt", "4")
    assert await _headers(gateway, streamed=streamed, **latest) == ("rebuilt", "4")


async def _hold_twice(
    clients: Sequence[Client], gateway: Gateway, upstream: Emulated, turns: Sequence[Turn], *, streamed: bool
) -> None:
    """Hold the conversation, each client in turn, over an upstream that keeps it and over one that forgets it."""
    kept, lost = (Conversation(gateway, upstream, forgetful) for forgetful in (False, True))
    for conversation in (kept, lost):
        for client, turn in zip(cycle(clients), turns, strict=False):
            await conversation.say(client, turn, streamed=streamed)
    assert kept.steps == lost.steps


def _for_sdk(client: Client, turn: Turn) -> Turn:
    """The turn as this SDK can ask for it: the older one does not know `environment`."""
    members = dict(turn.members)
    if client.sdk.generation == "legacy" and "environment" in members:
        members["extra_body"] = {"environment": members.pop("environment")}
    return replace(turn, members=members)


async def _headers(gateway: Gateway, *, streamed: bool, **members: Any) -> tuple[str, str]:
    """What the service says about the history, to a client that looks at headers."""
    asked = gateway.stream if streamed else gateway.ask
    headers: Mapping[str, str] = (await asked("And?", **members)).headers
    return headers["x-interactions-history"], headers["x-interactions-history-links"]
