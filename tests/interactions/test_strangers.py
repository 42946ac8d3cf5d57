"""Processes that are configured differently: what one of them has no deployment for, it leaves to the others."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tests.interactions.test_media import PICTURE, counts, forgetful, shown, until
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartGateway
from tests.support.store import query
from tests.support.upstreams import Emulated, deployment

SLOW: Final = "background;queued=3600;running=3600"
HASTY: Final = {"poll_interval": 0.02, "poll_interval_max": 0.05, "claim_interval": 0.02}
FLASH, PRO = "gemini-2.5-flash", "gemini-2.5-pro"
DAY: Final = 86_400_000_000


async def serving(start: StartGateway, upstream: Emulated, model: str, **settings: Any) -> Gateway:
    return await start(**{"deployments": (deployment(upstream, model),), **HASTY, **settings})


async def has_status(gateway: Gateway, name: str, status: str) -> bool:
    return bool((await gateway.database.row(name))["status"] == status)


async def test_a_run_waits_for_a_process_that_has_its_deployment(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    first = await serving(start_gateway, upstream, FLASH)
    made = await first.ask("Take your time", background=True, wish=SLOW)
    await first.stop()
    stranger = await serving(start_gateway, upstream, PRO, background_timeout=0.2)
    await asyncio.sleep(0.5)
    assert (await stranger.got(made.id)).body["status"] == "queued"
    refused = await stranger.cancel(made.id)
    assert (refused.status, refused.error["code"]) == (400, "failed_precondition")
    assert "is not configured" in refused.error["message"]
    successor = await serving(start_gateway, upstream, FLASH)
    upstream.clock.advance(10_000)
    await eventually(lambda: has_status(successor, made.id, "completed"))
    assert "Take your time" in (await stranger.got(made.id)).text


async def test_a_run_has_the_time_that_its_own_deployment_gives_it(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    patient = deployment(upstream, FLASH, background_timeout=7 * 86_400.0)
    first = await start_gateway(deployments=(patient,), **HASTY)
    made = await first.ask("Take days", background=True, wish=SLOW)
    await query(first.database.url, f"UPDATE interactions SET created_at = created_at - {3 * DAY}")
    stranger = await serving(start_gateway, upstream, PRO)
    await first.stop()
    await asyncio.sleep(0.5)
    assert (await stranger.got(made.id)).body["status"] == "queued"
    successor = await start_gateway(deployments=(patient,), **HASTY)
    upstream.clock.advance(10_000)
    await eventually(lambda: has_status(successor, made.id, "completed"))


async def test_a_run_that_nobody_has_the_deployment_for_is_given_up_when_upstream_has_forgotten_it(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    first = await serving(start_gateway, upstream, FLASH)
    made = await first.ask("Take your time", background=True, wish=SLOW)
    await first.stop()
    stranger = await serving(start_gateway, upstream, PRO, background_timeout=1.0)
    await query(
        stranger.database.url, f"UPDATE interactions SET created_at = created_at - {60 * DAY + 2_000_000}"
    )
    await eventually(lambda: has_status(stranger, made.id, "failed"))
    assert (await stranger.got(made.id)).body["errors"][0]["code"] == "deadline_exceeded"


async def test_usage_that_is_owed_is_asked_for_by_who_can(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    first = await serving(start_gateway, upstream, FLASH, usage_interval=30.0)
    name = (await first.ask("Tell me", fault="missing_usage;gets=2")).id
    await first.stop()
    await query(first.database.url, "UPDATE leases SET due_at = 0 WHERE kind = 'usage'")
    stranger = await serving(start_gateway, upstream, PRO, usage_interval=0.02)
    await asyncio.sleep(0.5)
    await stranger.stop()
    assert await query(first.database.url, "SELECT due_at, tries FROM leases WHERE kind = 'usage'") == [
        (0, 0)
    ]
    successor = await serving(start_gateway, upstream, FLASH, usage_interval=0.02)

    async def is_told() -> bool:
        return bool((await successor.database.row(name))["total_tokens"])

    await eventually(is_told)


async def test_media_are_fetched_by_who_can(start_gateway: StartGateway, upstream: Emulated) -> None:
    first = await forgetful(start_gateway, upstream, drain_timeout=0.2)
    upstream.fault("status;code=503", method="GET", count=0)
    await first.ask([shown(upstream.put_file(PICTURE))])
    await first.stop()
    upstream.calm()
    await query(first.database.url, "UPDATE leases SET due_at = 0 WHERE kind = 'media'")
    stranger = await serving(start_gateway, upstream, PRO, keep_media=True)
    await asyncio.sleep(0.5)
    await stranger.stop()
    assert await counts(stranger) == (0, 0, 1)
    await until(await forgetful(start_gateway, upstream), 1, 1)
