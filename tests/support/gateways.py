"""Fixtures that start upstreams and services, and end them in the reverse order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from service.settings import Settings
from service.settings.model import RouterSettings
from tests.support.gateway import Gateway
from tests.support.upstreams import Emulated, Script, Scripted, deployment

StartEmulator = Callable[..., Awaitable[Emulated]]
StartScripted = Callable[[Script], Awaitable[Scripted]]
StartGateway = Callable[..., Awaitable[Gateway]]


@pytest.fixture(name="running")
async def running_fixture() -> AsyncIterator[AsyncExitStack]:
    """What the test has started, to be ended after it."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(name="start_emulator")
def start_emulator_fixture(running: AsyncExitStack) -> StartEmulator:
    """Start an emulator with some configuration."""

    async def started(**config: Any) -> Emulated:
        emulated = Emulated(**config)
        await emulated.server.start_server()
        running.push_async_callback(emulated.close)
        return emulated

    return started


@pytest.fixture(name="start_scripted")
def start_scripted_fixture(running: AsyncExitStack) -> StartScripted:
    """Start an upstream that answers by a script."""

    async def started(script: Script) -> Scripted:
        scripted = Scripted(script)
        await scripted.server.start_server()
        running.push_async_callback(scripted.close)
        return scripted

    return started


@pytest.fixture(name="upstream")
async def upstream_fixture(start_emulator: StartEmulator) -> Emulated:
    """An emulator as it is by default."""
    return await start_emulator()


@pytest.fixture(name="gateway")
async def gateway_fixture(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service with one deployment, on that emulator."""
    return await start_gateway(upstream)


def gateway_starter(running: AsyncExitStack, database_url: str, **usual: Any) -> StartGateway:
    """Start services on one database, with these settings unless a test gives others."""

    async def started(upstream: Emulated | Scripted | str | None = None, **settings: Any) -> Gateway:
        given: dict[str, Any] = {
            "database_url": database_url,
            "drain_timeout": 5.0,
            "upstream_settle": 0.15,
            # What upstream answers is what the test is about, unless it says otherwise.
            "router": RouterSettings(num_retries=0),
            **usual,
            **settings,
        }
        if upstream is not None:
            given["default_deployment"] = deployment(upstream)
        gateway = await Gateway(Settings(**given)).start()
        running.push_async_callback(gateway.stop)
        return gateway

    return started
