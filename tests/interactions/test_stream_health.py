"""A stream that breaks off says something about its deployment, though whoever listens may not notice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.support.fleet import Fleet, fleet_of
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, gateway_starter
from tests.support.replies import Json
from tests.support.upstreams import Emulated

WHOLE = 1e6


@pytest.fixture
def start_gateway(running: AsyncExitStack, sqlite_url: str) -> StartGateway:
    """The health of deployments is no matter of the database."""
    return gateway_starter(running, sqlite_url)


@pytest.fixture
async def fleet(start_emulator: StartEmulator, start_gateway: StartGateway) -> Fleet:
    return await fleet_of(start_emulator, start_gateway, "ab")


async def state_of(gateway: Gateway, name: str) -> Json:
    told = (await gateway.request("GET", "/api/deployments")).body["deployments"]
    found: list[Json] = [one for one in told if one["id"] == name]
    return found[0]


async def broken(gateway: Gateway, name: str = "a") -> int:
    count: int = (await state_of(gateway, name))["attempts"].get("broken", 0)
    return count


@pytest.mark.parametrize(
    "fault",
    ["cut;after=3", "cut;after=3;reset=1", "end;after=3", "malformed_tail;after=3", "error_event;after=3"],
)
async def test_a_deployment_that_breaks_streams_off_cools_down(fleet: Fleet, fault: str) -> None:
    gateway = await fleet.gateway(allowed_fails=1, cooldown_time=60.0, members={"order": {"a": 1, "b": 2}})
    fleet["a"].behave(fault)
    for _ in range(2):
        assert (await gateway.stream("Hello")).headers["x-deployment"] == "a"
    state = await state_of(gateway, "a")
    assert (state["state"], state["attempts"]) == ("open", {"answered": 2, "broken": 2})
    assert (await gateway.stream("Hello")).headers["x-deployment"] == "b"


async def test_silence_in_a_stream_is_a_break(fleet: Fleet) -> None:
    gateway = await fleet.gateway("a", members={"stream_timeout": 0.2})
    streamed = await gateway.stream("Hello", fault="stall;after=3")
    assert streamed.final["status"] == "completed"
    assert await broken(gateway) == 1


async def test_an_error_that_is_the_requests_own_is_no_break(fleet: Fleet) -> None:
    gateway = await fleet.gateway("a")
    await gateway.stream("Hello", fault="error_event;after=3;code=safety;message=Blocked")
    assert await broken(gateway) == 0


async def test_a_stream_that_breaks_again_and_again_counts_once(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(foreground_event_ids=True)
    fleet = Fleet({"a": upstream}, start_gateway)
    gateway = await fleet.gateway()
    upstream.fault("cut;after=3")
    upstream.fault("cut;after=2", method="GET", count=3)
    streamed = await gateway.stream("Hello")
    assert streamed.final["status"] == "completed"
    assert len(upstream.calls("GET")) > 3
    assert await broken(gateway) == 1


@pytest.mark.parametrize("background", [False, True])
async def test_a_cancel_is_no_break(
    start_emulator: StartEmulator, start_gateway: StartGateway, background: bool
) -> None:
    upstream: Emulated = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway = await Fleet({"a": upstream}, start_gateway).gateway()
    async with gateway.live("Slowly", background=background) as live:
        await live.next()
        assert (await gateway.cancel(live.id)).body["status"] == "cancelled"
        await live.rest()
    assert await broken(gateway) == 0


async def test_a_client_that_leaves_breaks_nothing(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway = await Fleet({"a": upstream}, start_gateway).gateway()
    async with gateway.live("Slowly") as live:
        await live.next()
        name = live.id
        live.leave()
    upstream.clock.advance(WHOLE)
    assert (await gateway.finished(name)).body["status"] == "completed"
    assert await broken(gateway) == 0


async def test_a_place_is_kept_for_a_stream_that_was_taken_up_in_the_middle(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway = await Fleet({"a": upstream}, start_gateway).gateway()
    made = await gateway.ask("Slowly", background=True, wish="background;queued=3600;running=3600")

    async def runs() -> bool:
        return bool((await state_of(gateway, "a"))["running"] == 1)

    await eventually(runs)
    upstream.clock.advance(WHOLE)
    assert (await gateway.finished(made.id)).body["status"] == "completed"

    async def is_free() -> bool:
        return bool((await state_of(gateway, "a"))["running"] == 0)

    await asyncio.wait_for(eventually(is_free), 20)
