"""The database is out of order: nothing is sent that is not recorded, nothing acknowledged that is not kept."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.upstreams import Emulated


async def test_nothing_goes_upstream_that_cannot_be_recorded(gateway: Gateway, upstream: Emulated) -> None:
    async with gateway.database.outage():
        replies = await asyncio.gather(gateway.refused(503), gateway.refused(503, stream=True))
    for reply in replies:
        assert reply.error["code"] == "service_unavailable"
        assert int(reply.headers["retry-after"]) >= 1
        assert "x-interaction-id" not in reply.headers
    assert upstream.requests == []
    assert await gateway.database.count() == 0
    assert (await gateway.ask("Again")).body["status"] == "completed"
    assert len(upstream.requests) == 1


async def test_reading_goes_on_while_nothing_can_be_written(gateway: Gateway) -> None:
    made = await gateway.ask()
    async with gateway.database.held():
        assert (await gateway.got(made.id)).body == made.body


async def test_an_answer_waits_until_it_can_be_recorded(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator()
    upstream.hold()
    gateway = await start_gateway(upstream)
    asking = asyncio.create_task(gateway.ask("Precious"))

    async def sent() -> bool:
        return len(upstream.requests) == 1

    await eventually(sent)
    async with gateway.database.outage():
        upstream.release()
        # Longer than new work would be made to wait.
        done, _ = await asyncio.wait({asking}, timeout=3.0)
        assert not done
    made = await asking
    assert '"Precious"' in made.text
    assert (await gateway.database.row(made.id))["status"] == "completed"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("patience", [60.0, 0.2], ids=["patient", "out of patience"])
async def test_a_background_run_is_told_of_when_it_can_be_found_again(
    start_gateway: StartGateway, upstream: Emulated, patience: float
) -> None:
    gateway = await start_gateway(upstream, outcome_patience=patience)

    async def first() -> str:
        wish = "background;queued=3600;running=3600"
        async with gateway.live("Work", background=True, wish=wish) as live:
            assert await live.next() is not None
            row = await gateway.database.row(live.id)
            assert row["upstream_id"] is not None
            return live.id

    upstream.hold()
    begun = asyncio.create_task(first())

    async def is_recorded() -> bool:
        return bool(await gateway.database.rows()) and upstream.asked == 1

    await eventually(is_recorded)
    async with gateway.database.held():
        upstream.release()
        await asyncio.sleep(1.5)
        assert not begun.done()
    assert (await gateway.cancel(await begun)).body["status"] == "cancelled"
