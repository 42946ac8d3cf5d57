"""A cancel that is asked of another process than the one that holds the interaction."""

from __future__ import annotations

import asyncio

from tests.support.gateway import eventually
from tests.support.gateways import StartGateway
from tests.support.store import query
from tests.support.upstreams import Emulated

HASTY = {"poll_interval": 0.02, "poll_interval_max": 0.05, "claim_interval": 0.02}


async def test_what_has_failed_meanwhile_was_not_cancelled(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    holder, other = await start_gateway(upstream, **HASTY), await start_gateway(upstream, **HASTY)
    upstream.fault("latency;seconds=1.5,status;code=400")
    create = asyncio.create_task(holder.create("Slow", background=True))

    async def is_open() -> bool:
        return bool(await holder.database.rows())

    await eventually(is_open)
    (row,) = (await other.request("GET", "/api/interactions")).body["interactions"]
    cancelled = await other.cancel(row["id"])
    assert (await create).status == 400
    assert (cancelled.status, cancelled.error["code"]) == (400, "failed_precondition")
    assert "has the status 'failed'" in cancelled.error["message"]
    assert await query(holder.database.url, "SELECT status FROM interactions") == [("failed",)]
