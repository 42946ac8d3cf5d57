"""Tokens count towards `tpm` by whatever way the end of an interaction comes, and once."""

from __future__ import annotations

from typing import Any

import pytest

from service.store.records import USAGE_FINAL
from tests.support.fleet import Fleet
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartGateway
from tests.support.pauses import time_in_this_minute
from tests.support.upstreams import Emulated

HASTY: dict[str, Any] = {
    "poll_interval": 0.02,
    "poll_interval_max": 0.05,
    "usage_interval": 0.02,
    "claim_interval": 0.02,
}
LATE = "missing_usage;gets=2"


async def tokens(gateway: Gateway) -> int:
    (told,) = (await gateway.request("GET", "/api/deployments")).body["deployments"]
    count: int = told["minute"]["tokens"]
    return count


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
@pytest.mark.parametrize("way", ["unary", "stream", "attached", "polled"])
async def test_tokens_are_counted_once(
    start_gateway: StartGateway, upstream: Emulated, way: str, late: bool
) -> None:
    fleet = Fleet({"a": upstream}, start_gateway)
    gateway = await fleet.gateway(background_streams=0 if way == "polled" else 256, **HASTY)
    fault = LATE if late else ""
    await time_in_this_minute(5.0)
    match way:
        case "unary":
            name = (await gateway.ask("Tell me", fault=fault)).id
        case "stream":
            name = (await gateway.stream("Tell me", fault=fault)).id
        case _:
            name = (await gateway.ask("Tell me", background=True, fault=fault)).id
            upstream.clock.advance(100)
            await gateway.finished(name)

    async def is_final() -> bool:
        row = await gateway.database.row(name)
        return bool(row["usage_state"] == USAGE_FINAL and row["completed_at"])

    async def is_counted() -> bool:
        return await tokens(gateway) > 0

    await eventually(is_final)
    await eventually(is_counted)
    await gateway.got(name)
    await gateway.delete(name)
    assert await tokens(gateway) == (await gateway.database.row(name))["total_tokens"]


async def test_tokens_of_a_stream_that_another_process_has_begun_count_where_it_is_read_to_its_end(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    fleet = Fleet({"a": upstream}, start_gateway)
    before = await fleet.gateway(**HASTY)
    made = await before.ask("Slowly", background=True, wish="background;queued=3600;running=3600")
    await before.stop()
    await time_in_this_minute(5.0)
    after = await fleet.gateway(**HASTY)
    upstream.clock.advance(1e6)
    await after.finished(made.id)

    async def is_counted() -> bool:
        return await tokens(after) > 0

    await eventually(is_counted)
    assert await tokens(after) == (await after.database.row(made.id))["total_tokens"]
