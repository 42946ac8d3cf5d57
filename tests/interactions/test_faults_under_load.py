"""One of three deployments fails in every way while requests come in: who notices, and what it costs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from service.settings.model import RouterSettings
from service.upstream.routing.budget import RATIO, WINDOW
from tests.interactions.test_retries import SAFE
from tests.support.door import Door
from tests.support.fleet import Fleet, fleet_of
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Reply

CLIENTS = 12
EACH = 7
COOLDOWN = 0.15
#: A conflict is the request's, and its deployment does not rest: it comes once or twice, and not with every request.
CONFLICT = "status;code=409"
#: Faults after which nobody knows whether the request has run.
AMBIGUOUS = ("reset_before", "reset_after", "broken_json", "empty")
#: An answer of which nothing has come but its head.
HEADLESS = "reset_headers"


@pytest.fixture
async def fleet(start_emulator: StartEmulator, start_gateway: StartGateway) -> Fleet:
    return await fleet_of(start_emulator, start_gateway, "abc")


async def loaded(gateway: Gateway, clients: int = CLIENTS, each: int = EACH) -> list[Reply]:
    """The answers to so many clients that each ask so often."""

    async def client(number: int) -> list[Reply]:
        return [await gateway.create(f"client {number}, question {count}") for count in range(each)]

    answers = await asyncio.gather(*(client(number) for number in range(clients)))
    return [reply for found in answers for reply in found]


async def serves_again(fleet: Fleet, gateway: Gateway, name: str) -> None:
    """Wait until a deployment that was calmed gets requests and answers them."""

    async def served() -> bool:
        return name in {reply.headers.get("x-deployment") for reply in await loaded(gateway, 4, 2)}

    await eventually(served)


async def test_nobody_notices_what_is_safe_to_repeat_and_it_adds_no_more_than_a_tenth(fleet: Fleet) -> None:
    gateway = await fleet.gateway(cooldown_time=2 * COOLDOWN)
    began = time.monotonic()
    for fault in SAFE:
        # What comes before earns the retries.
        await loaded(gateway, CLIENTS, 6)
        await serves_again(fleet, gateway, "c")
        asked = fleet.asked()
        fleet["c"].fault(fault, count=2 if fault == CONFLICT else 0)
        replies = await loaded(gateway, 4, 9)
        assert Counter(reply.status for reply in replies) == {200: 36}, fault
        assert fleet.asked().total() > asked.total() + len(replies), fault
        fleet["c"].calm()
        await serves_again(fleet, gateway, "c")
    rows = await gateway.database.rows()
    assert len({row["upstream_id"] for row in rows}) == fleet.held == len(rows)
    added = fleet.asked().total() - len(rows)
    windows = (time.monotonic() - began) / WINDOW
    assert 0 < added <= RATIO * len(rows) + RouterSettings().retry_allowance * (1 + windows)


async def test_without_an_allowance_retries_are_a_tenth_of_the_traffic_at_most(fleet: Fleet) -> None:
    gateway = await fleet.gateway(disable_cooldowns=True, retry_allowance=0, num_retries=4)
    for name in "bc":
        fleet[name].behave("status;code=503")
    replies = await loaded(gateway)
    refused = sum(reply.status == 503 for reply in replies)
    assert 0 < refused < len(replies)
    added = fleet.asked().total() - len(replies)
    assert 0 < added <= RATIO * len(replies)
    shown = (await gateway.request("GET", "/metrics")).raw.decode()
    assert f"interactions_retries_total {float(added)}" in shown


async def test_a_deployment_that_is_down_is_asked_by_probes_alone(fleet: Fleet) -> None:
    gateway = await fleet.gateway(cooldown_time=60.0)
    await loaded(gateway, each=3)
    await fleet["c"].close()
    replies = await loaded(gateway)
    assert Counter(reply.status for reply in replies) == {200: CLIENTS * EACH}
    told = (await gateway.request("GET", "/api/deployments")).body["deployments"]
    states = {one["id"]: one["state"] for one in told}
    assert states == {"a": "closed", "b": "closed", "c": "open"}
    (down,) = [one for one in told if one["id"] == "c"]
    assert down["attempts"]["unreachable"] <= 4 + CLIENTS
    again = await loaded(gateway)
    assert {reply.headers["x-attempts"] for reply in again} == {"1"}


async def test_a_deployment_that_can_be_reached_again_serves_again(fleet: Fleet) -> None:
    door = await Door(fleet["c"].url).open()
    addresses = {"a": fleet["a"].url, "b": fleet["b"].url, "c": door.url}
    gateway = await fleet.gateway(cooldown_time=COOLDOWN, members={"api_base": addresses})
    await loaded(gateway)
    await door.shut()
    replies = await loaded(gateway, 4, 5)
    assert {reply.status for reply in replies} == {200}
    await door.open()
    await serves_again(fleet, gateway, "c")
    await door.shut()


@pytest.mark.parametrize("fault", [*AMBIGUOUS, HEADLESS])
async def test_what_may_have_run_is_never_run_twice(fleet: Fleet, fault: str) -> None:
    gateway = await fleet.gateway(cooldown_time=COOLDOWN)
    fleet["c"].behave(fault)
    replies = await loaded(gateway, each=5)
    assert {reply.status for reply in replies} == {200, 502}
    # A connection that is reset before the request is read shows the emulator no request.
    assert fleet.asked().total() <= len(replies) == await gateway.database.count()
    assert fleet.held <= len(replies)
    lost = [row for row in await gateway.database.rows() if row["status"] == "failed"]
    fleet["c"].calm()
    await serves_again(fleet, gateway, "c")
    assert len(lost) == sum(reply.status == 502 for reply in replies)
    assert all('"ambiguous":true' in row["attempts"] for row in lost)


async def test_an_outage_of_all_is_not_multiplied(fleet: Fleet) -> None:
    for name in "abc":
        fleet[name].behave("status;code=503")
    gateway = await fleet.gateway(cooldown_time=COOLDOWN, retry_after=0.0)
    began = time.monotonic()
    replies = await loaded(gateway, 20, 10)
    assert {reply.status for reply in replies} == {503}
    windows = (time.monotonic() - began) / WINDOW
    allowance = RouterSettings().retry_allowance * (1 + windows)
    assert fleet.asked().total() - len(replies) <= RATIO * len(replies) + allowance
