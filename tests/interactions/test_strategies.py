"""The strategies over sockets, with one and with two processes on one database."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any, get_args

import pytest

from service.settings.model import RoutingStrategy
from tests.support.fleet import Fleet, fleet_of
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.pauses import time_in_this_minute
from tests.support.store import is_sqlite, query

INTERVAL = 0.05
WRITES_OF_A_CREATE = 2
#: Looks at what processes share, and changes of it.
_TOUCHED = (
    "SELECT coalesce(sum(seq_scan + idx_scan + n_tup_ins + n_tup_upd), 0)::bigint FROM pg_stat_user_tables "
    "WHERE relname = 'deployment_states'"
)


@pytest.fixture
async def fleet(start_emulator: StartEmulator, start_gateway: StartGateway) -> Fleet:
    return await fleet_of(start_emulator, start_gateway, "abc")


@pytest.fixture(params=[1, 2])
def replicas(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


async def spread(gateways: list[Gateway], each: int, clients: int = 8) -> Counter[str]:
    """Where the requests of so many clients to each process were served."""

    async def client(gateway: Gateway) -> list[str]:
        return [(await gateway.ask("Hello")).headers["x-deployment"] for _ in range(each)]

    found = await asyncio.gather(*(client(gateway) for gateway in gateways for _ in range(clients)))
    return Counter(place for places in found for place in places)


@pytest.mark.parametrize(("strategy", "slow"), [("least-busy", 3600), ("latency-based-routing", 1)])
async def test_load_leaves_a_slow_deployment(fleet: Fleet, replicas: int, strategy: str, slow: int) -> None:
    """One that takes long; who is counted by what is under way need not have been answered once."""
    gateways = [await fleet.gateway(routing_strategy=strategy) for _ in range(replicas)]
    await spread(gateways, 3)
    fleet["a"].behave(f"latency;seconds={slow}")
    before = fleet["a"].asked
    ends = time.monotonic() + 1.8
    late: Counter[str] = Counter()
    over = asyncio.Event()

    async def client(gateway: Gateway) -> None:
        while not over.is_set():
            began = time.monotonic()
            place = (await gateway.ask("Hello")).headers["x-deployment"]
            if began > ends - 0.8 and not over.is_set():
                late[place] += 1
            # On a machine that is slow itself, a few requests say nothing.
            if time.monotonic() > ends and late.total() >= 60:
                over.set()

    async def release() -> None:
        try:
            async with asyncio.timeout(60):
                await over.wait()
            if strategy == "least-busy":
                # As many as are under way elsewhere of six at a time.
                assert fleet["a"].asked - before <= 3 * replicas
        finally:
            over.set()
            fleet["a"].release()

    await asyncio.gather(release(), *(client(gateway) for gateway in gateways for _ in range(6)))
    assert late["a"] / late.total() < 0.15


async def test_load_goes_to_the_cheapest_that_are_well(fleet: Fleet, replicas: int) -> None:
    prices = {"a": 1e-7, "b": 1e-7, "c": 3e-7}
    gateways = [
        await fleet.gateway(
            routing_strategy="cost-based-routing",
            members={"input_cost_per_token": prices, "output_cost_per_token": prices},
            cooldown_time=600.0,
            allowed_fails=0,
        )
        for _ in range(replicas)
    ]
    cheap = await spread(gateways, 10, clients=4)
    assert set(cheap) == {"a", "b"}
    assert fleet.asked() == cheap
    for name in "ab":
        fleet[name].behave("status;code=503")
    # What is dear serves where nothing cheaper can, at once.
    assert set(await spread(gateways, 3, clients=2)) == {"c"}


async def test_processes_share_a_minutes_usage(fleet: Fleet) -> None:
    gateways = [
        await fleet.gateway(
            "ab",
            members={"rpm": 20},
            routing_strategy="usage-based-routing",
            shared_state_interval=INTERVAL,
        )
        for _ in range(2)
    ]
    await time_in_this_minute(10.0)
    assert await spread(gateways[:1], 15, clients=2) == {"a": 15, "b": 15}

    async def told() -> bool:
        return await _minute(gateways[1]) == {"a": 15, "b": 15}

    await eventually(told)
    assert await spread(gateways[1:], 5, clients=2) == {"a": 5, "b": 5}
    reply = await gateways[1].refused(429)
    assert 0 < int(reply.headers["retry-after"]) <= 60

    async def told_back() -> bool:
        return await _minute(gateways[0]) == {"a": 20, "b": 20}

    await eventually(told_back)
    assert (await gateways[0].create("Hello")).status == 429


async def test_a_process_heeds_the_cooldown_that_another_has_begun(fleet: Fleet) -> None:
    gateways = [await fleet.gateway(cooldown_time=60.0, shared_state_interval=INTERVAL) for _ in range(2)]
    fleet["a"].behave("status;code=503")
    await spread(gateways[:1], 8, clients=4)
    asked = fleet["a"].asked

    async def told() -> bool:
        return (await _states(gateways[1]))["a"] == "open"

    await eventually(told)
    assert "a" not in await spread(gateways[1:], 5, clients=4)
    assert fleet["a"].asked == asked


async def test_a_process_heeds_what_another_has_under_way(fleet: Fleet) -> None:
    strategy: dict[str, Any] = {"routing_strategy": "least-busy", "shared_state_interval": INTERVAL}
    busy = await fleet.gateway(members={"order": {"a": 1, "b": 2, "c": 2}}, **strategy)
    idle = await fleet.gateway(**strategy)
    fleet["a"].behave("stall;after=3")
    async with AsyncExitStack() as streams:
        for _ in range(4):
            live = await streams.enter_async_context(busy.live("Hello"))
            assert live.response.headers["x-deployment"] == "a"
            streams.push_async_callback(busy.cancel, live.response.headers["x-interaction-id"])

        async def avoided() -> bool:
            # By chance it is so once in thousands of times.
            return "a" not in await spread([idle], 20, clients=1)

        await eventually(avoided)
        assert "a" not in await spread([idle], 20, clients=1)


@pytest.mark.parametrize("strategy", get_args(RoutingStrategy))
async def test_what_processes_share_costs_a_create_nothing(fleet: Fleet, strategy: str) -> None:
    members: dict[str, Any] = {"rpm": 100_000, "input_cost_per_token": {"a": 1e-7, "b": 1e-7}}
    strategy_and: dict[str, Any] = {"routing_strategy": strategy, "members": members}
    gateway = await fleet.gateway("ab", shared_state_interval=3600.0, **strategy_and)
    url = gateway.database.url
    touched = [] if is_sqlite(url) else await query(url, _TOUCHED)
    before = await _written(gateway)
    await spread([gateway], 5, clients=4)
    # The intent, the request, the outcome and the answer, under every strategy.
    assert await _written(gateway) - before == 20 * WRITES_OF_A_CREATE
    await gateway.stop()
    if touched:
        # A connection counts what it has done when it ends.
        assert await query(url, _TOUCHED) == touched
    assert await query(url, "SELECT count(*) FROM deployment_states") == [(0,)]
    exchanging = await fleet.gateway("ab", shared_state_interval=INTERVAL, **strategy_and)
    await spread([exchanging], 1, clients=1)

    async def is_shared() -> bool:
        return await query(url, "SELECT count(*) > 0 FROM deployment_states") == [(True,)]

    await eventually(is_shared)


async def _written(gateway: Gateway) -> int:
    """How many statements it has given to its writer."""
    shown = (await gateway.request("GET", "/metrics")).raw.decode()
    (line,) = (line for line in shown.splitlines() if line.startswith("interactions_writer_entries_total "))
    return int(float(line.split()[1]))


async def _states(gateway: Gateway) -> dict[str, str]:
    body = (await gateway.request("GET", "/api/deployments")).body
    return {one["id"]: one["state"] for one in body["deployments"]}


async def _minute(gateway: Gateway) -> dict[str, int]:
    body = (await gateway.request("GET", "/api/deployments")).body
    return {one["id"]: one["minute"]["requests"] for one in body["deployments"]}
