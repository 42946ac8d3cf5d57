"""Conversations whose deployment cools down, is full, goes away and comes back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from tests.interactions.conversations import assert_quotes
from tests.support.door import Door
from tests.support.fleet import Fleet, fleet_of
from tests.support.gateway import eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Reply

TURNS = 20


@pytest.fixture
async def fleet(start_emulator: StartEmulator, start_gateway: StartGateway) -> Fleet:
    return await fleet_of(start_emulator, start_gateway, "ab")


@pytest.fixture
async def doors(fleet: Fleet, running: AsyncExitStack) -> dict[str, Door]:
    """The ways to the emulators."""
    found = {name: await Door(emulated.url).open() for name, emulated in fleet.emulators.items()}
    for door in found.values():
        running.push_async_callback(door.shut)
    return found


async def test_every_turn_has_the_whole_history_while_deployments_come_and_go(
    fleet: Fleet, doors: dict[str, Door]
) -> None:
    addresses = {name: door.url for name, door in doors.items()}
    # All that befalls it comes within a moment, and there is no other traffic that would earn the retries.
    gateway = await fleet.gateway(
        cooldown_time=0.05, allowed_fails=0, retry_allowance=TURNS, members={"api_base": addresses}
    )
    random = Random(20)
    befell: set[int] = set()
    texts: list[str] = []
    replies: list[Reply] = []
    for turn in range(TURNS):
        texts.append(f"turn number {turn}")
        for name in "ab":
            fleet[name].calm()
            await doors[name].open()
        if replies:
            holder = replies[-1].headers["x-deployment"]
            befell.add(fate := random.randrange(5))
            match fate:
                case 0:
                    fleet[holder].behave("status;code=503")
                case 1:
                    fleet[holder].behave("status;code=429;retry_after=0.1")
                case 2:
                    fleet[holder].forget()
                case 3:
                    await doors[holder].shut()
                case _:
                    pass
        previous: dict[str, Any] = {"previous_interaction_id": replies[-1].id} if replies else {}
        if turn % 3 == 2:
            streamed = await gateway.stream(texts[-1], **previous)
            assert streamed.done
            reply = await gateway.got(streamed.id)
            reply = Reply(reply.status, streamed.headers, reply.raw)
        else:
            reply = await gateway.ask(texts[-1], **previous)
        assert_quotes(reply, *texts)
        replies.append(reply)
    assert befell == set(range(5))
    histories = {reply.headers["x-interactions-history"] for reply in replies[1:]}
    assert histories == {"upstream", "rebuilt"}
    assert {reply.headers["x-deployment"] for reply in replies} == {"a", "b"}


async def test_a_conversation_stays_on_its_deployment(fleet: Fleet) -> None:
    gateway = await fleet.gateway()
    reply = await gateway.ask("turn 0")
    homes = {reply.headers["x-deployment"]}
    for turn in range(1, 6):
        reply = await gateway.ask(f"turn {turn}", previous_interaction_id=reply.id)
        assert reply.headers["x-interactions-history"] == "upstream"
        homes.add(reply.headers["x-deployment"])
    assert len(homes) == 1


async def test_a_full_deployment_is_not_waited_for(fleet: Fleet) -> None:
    gateway = await fleet.gateway(
        members={"order": {"a": 1, "b": 2}, "max_parallel_requests": {"a": 1, "b": None}}
    )
    first = await gateway.ask("One")
    fleet["a"].hold()
    busy = asyncio.create_task(gateway.ask("Busy"))

    async def is_full() -> bool:
        return fleet["a"].asked == 2

    await eventually(is_full)
    reply = await gateway.ask("Two", previous_interaction_id=first.id)
    fleet["a"].release()
    await busy
    assert (reply.headers["x-deployment"], reply.headers["x-interactions-history"]) == ("b", "rebuilt")
    assert_quotes(reply, "One", "Two")


async def test_a_deployment_that_was_removed_is_not_missed(fleet: Fleet) -> None:
    before = await fleet.gateway("a")
    first = await before.ask("One")
    await before.stop()
    after = await fleet.gateway("b")
    reply = await after.ask("Two", previous_interaction_id=first.id)
    assert (reply.headers["x-deployment"], reply.headers["x-interactions-history"]) == ("b", "rebuilt")
    assert_quotes(reply, "One", "Two")


async def test_what_cannot_be_rebuilt_goes_on_where_it_is(fleet: Fleet) -> None:
    gateway = await fleet.gateway(
        allowed_fails=0, cooldown_time=60.0, max_rebuild_bytes=10, members={"order": {"a": 1, "b": 2}}
    )
    first = await gateway.ask("One")
    fleet["a"].fault("status;code=503")
    assert (await gateway.ask("Hello")).headers["x-deployment"] == "b"
    reply = await gateway.ask("Two", previous_interaction_id=first.id)
    assert (reply.headers["x-deployment"], reply.headers["x-interactions-history"]) == ("a", "upstream")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_rebuilt_elsewhere_is_tried_again_where_it_is(
    fleet: Fleet, stream: bool
) -> None:
    gateway = await fleet.gateway(max_rebuild_bytes=10, members={"order": {"a": 1, "b": 2}})
    first = await gateway.ask("One")
    fleet["a"].fault("status;code=503")
    if stream:
        streamed = await gateway.stream("Two", previous_interaction_id=first.id)
        assert streamed.done
        headers = streamed.headers
    else:
        headers = (await gateway.ask("Two", previous_interaction_id=first.id)).headers
    assert (headers["x-deployment"], headers["x-attempts"]) == ("a", "2")
    assert headers["x-interactions-history"] == "upstream"
    assert fleet.asked() == {"a": 3}


async def test_the_refusal_of_its_own_deployment_is_told_where_nothing_else_can_serve(fleet: Fleet) -> None:
    gateway = await fleet.gateway(max_rebuild_bytes=10, num_retries=1, members={"order": {"a": 1, "b": 2}})
    first = await gateway.ask("One")
    fleet["a"].behave("status;code=503;message=Overloaded")
    reply = await gateway.refused(503, "Two", previous_interaction_id=first.id)
    assert reply.error["message"] == "Overloaded"
    assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("a", "2")
    assert fleet.asked() == {"a": 3}


async def test_get_and_cancel_go_to_the_interactions_own_deployment_whatever_its_state(fleet: Fleet) -> None:
    gateway = await fleet.gateway(allowed_fails=0, cooldown_time=60.0, members={"order": {"a": 1, "b": 2}})
    running = await gateway.ask("Work", background=True, wish="zombie")
    assert running.headers["x-deployment"] == "a"
    fleet["a"].fault("status;code=503")
    assert (await gateway.ask("Hello")).headers["x-deployment"] == "b"
    fleet["a"].clear()
    fleet["b"].clear()
    assert (await gateway.got(running.id)).body["status"] in ("queued", "in_progress")
    assert (await gateway.cancel(running.id)).body["status"] == "cancelled"
    assert {seen["method"] for seen in fleet["a"].requests} == {"GET", "POST"}
    assert fleet["b"].requests == []


async def test_a_token_is_sent_where_it_was_issued_even_while_that_rests(fleet: Fleet) -> None:
    gateway = await fleet.gateway(allowed_fails=0, cooldown_time=60.0, members={"order": {"a": 1, "b": 2}})
    part = await gateway.ask("Tell", wish="continuation;hops=2")
    assert part.body["status"] == "requires_continuation"
    fleet["a"].fault("status;code=503")
    await gateway.ask("Hello")
    reply = await gateway.ask(
        ...,
        previous_interaction_id=part.id,
        continuation_token=part.body["continuation_token"],
    )
    assert reply.headers["x-deployment"] == "a"
