"""A stop that is asked for lets what runs come to its end, and loses nothing that does not (promise P3)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientSession

from tests.support.database import Database
from tests.support.gateway import MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.processes import ServiceProcess
from tests.support.replies import Live
from tests.support.upstreams import KEY, Emulated

WHOLE = 1e6
MASTER_KEY = "a-key-of-this-test-alone"


@pytest.fixture
async def slow(start_emulator: StartEmulator) -> Emulated:
    """An emulator whose streams go on only when its clock is moved: one event a minute."""
    return await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)


async def stopping(gateway: Gateway) -> asyncio.Task[None]:
    """Begin to stop; returns when no new connection is taken any more."""
    task = asyncio.create_task(gateway.stop())

    async def refuses() -> bool:
        async with ClientSession() as session:
            try:
                async with session.get(f"{gateway.url}/health/live"):
                    return False
            except ClientConnectionError:
                return True

    await eventually(refuses)
    return task


async def test_a_create_is_answered_before_the_end(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(await start_emulator(latency=0.5))
    asking = asyncio.create_task(gateway.ask("Unary"))
    await eventually(lambda: has_row(gateway))
    stopped = await stopping(gateway)
    made = await asking
    await stopped
    assert (await gateway.database.row(made.id))["status"] == "completed"


async def has_row(gateway: Gateway) -> bool:
    return await gateway.database.count() > 0


async def test_a_stream_is_told_to_its_end(slow: Emulated, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(slow)
    async with gateway.live("Slowly") as live:
        await live.next()
        stopped = await stopping(gateway)
        slow.clock.advance(WHOLE)
        streamed = await live.rest()
    await stopped
    assert streamed.final["status"] == "completed"
    assert (await gateway.database.row(live.id))["status"] == "completed"


async def test_a_stream_without_a_listener_is_recorded_to_its_end(
    slow: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(slow)
    async with gateway.live("Slowly") as live:
        await live.next()
        live.leave()
    stopped = await stopping(gateway)
    # Longer than what a process takes that has nothing to wait for.
    await asyncio.sleep(2.2)
    slow.clock.advance(WHOLE)
    await stopped
    assert (await gateway.database.row(live.id))["status"] == "completed"


async def test_a_create_without_a_client_is_recorded(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(await start_emulator(latency=0.7))
    asking = asyncio.create_task(gateway.ask("Unary"))
    await eventually(lambda: has_row(gateway))
    asking.cancel()
    await asyncio.sleep(0.1)
    await gateway.stop()
    (row,) = await gateway.database.rows()
    assert row["status"] == "completed"


async def test_what_takes_longer_is_cut_and_left_to_the_next_process(
    slow: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(slow, drain_timeout=0.5)
    async with gateway.live("Slowly") as live:
        await live.next()
        await eventually(lambda: noted(gateway, live))
        stopped = await stopping(gateway)
        streamed = await live.rest()
        await stopped
    assert streamed.broken
    assert not streamed.done
    row = await gateway.database.row(live.id)
    assert (row["status"], row["completed_at"]) == ("in_progress", None)
    slow.clock.advance(WHOLE)
    other = await start_gateway(slow)
    read = await other.finished(live.id)
    assert read.body["status"] == "completed"
    assert '"Slowly"' in read.text
    assert (await other.database.row(live.id))["status"] == "completed"


async def test_a_stream_has_its_time_once(slow: Emulated, start_gateway: StartGateway) -> None:
    drain_timeout, standstill = 3.0, 0.0
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        nonlocal standstill
        while True:
            before = loop.time()
            await asyncio.sleep(0.05)
            standstill += max(0.0, loop.time() - before - 0.1)

    watching = asyncio.create_task(watch())
    gateway = await start_gateway(slow, drain_timeout=drain_timeout)
    async with gateway.live("Slowly") as live:
        await live.next()
        stopped, told_at = asyncio.create_task(gateway.stop()), loop.time()
        streamed = await live.rest()
        taken = loop.time() - told_at
    await stopped
    watching.cancel()
    assert streamed.broken
    assert 0.9 * drain_timeout < taken < 1.8 * drain_timeout + standstill


async def test_a_background_run_that_is_listened_to_goes_on_here(
    slow: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(slow)
    async with gateway.live("Slowly", background=True) as live:
        await live.next()
        stopped = await stopping(gateway)
        slow.clock.advance(WHOLE)
        streamed = await live.rest()
    await stopped
    assert (streamed.final["status"], streamed.broken) == ("completed", False)
    assert (await gateway.database.row(live.id))["status"] == "completed"


async def noted(gateway: Gateway, live: Live) -> bool:
    return (await gateway.database.row(live.id))["upstream_id"] is not None


CONFIGURATION = """
model_list:
  - model_name: gemini-flash
    litellm_params: {{model: gemini/{model}, api_key: {key}, api_base: {base}}}
general_settings:
  master_key: {master_key}
  database_url: {database_url}
  port: 0
  drain_timeout: 20
"""


async def test_sigterm_lets_everything_come_to_its_end(
    slow: Emulated, tmp_path: Path, sqlite_url: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        CONFIGURATION.format(
            model=MODEL, key=KEY, base=slow.url, master_key=MASTER_KEY, database_url=sqlite_url
        )
    )
    database = Database(sqlite_url)
    process = ServiceProcess(["serve", "--config", str(config)])
    try:
        await asyncio.to_thread(process.wait_ready)
        slow.fault("latency;seconds=1", contains="Unary")
        headers = {"x-goog-api-key": MASTER_KEY}
        async with ClientSession(process.url, headers=headers) as session:
            unary = asyncio.create_task(
                session.post(f"/v1/interactions?key={MASTER_KEY}", json={"model": MODEL, "input": "Unary"})
            )
            body = {"model": "gemini-flash", "input": "Streamed", "stream": True}
            async with session.post("/v1/interactions", json=body) as response:
                live = Live(response)
                await live.next()

                async def both_recorded() -> bool:
                    return await database.count() == 2

                await eventually(both_recorded)
                status = asyncio.create_task(asyncio.to_thread(process.stop))
                await eventually(lambda: said(process, "stopping"))
                slow.clock.advance(WHOLE)
                streamed = await live.rest()
            answered = await (await unary).json()
            assert await status == 0
        assert streamed.final["status"] == answered["status"] == "completed"
        assert [row["status"] for row in await database.rows()] == ["completed", "completed"]
        assert not [line for line in process.log if MASTER_KEY in line or KEY in line]
    finally:
        await asyncio.to_thread(process.stop)
        await database.close()


async def said(process: ServiceProcess, word: str) -> bool:
    return any(word in line for line in process.log)
