"""The service in this process, on each database, with an emulator behind it and a receiver of webhooks before it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.interactions.conftest import (
    database_url,
    reconciles_fixture,
    running_fixture,
    start_emulator_fixture,
    start_gateway,
    start_scripted_fixture,
    upstream_fixture,
)
from tests.support.gateway import Gateway
from tests.support.gateways import StartGateway
from tests.support.receivers import Receiver, receiver
from tests.support.upstreams import Emulated
from tests.webhooks.hooking import QUICK

__all__ = (
    "database_url",
    "reconciles_fixture",
    "running_fixture",
    "start_emulator_fixture",
    "start_gateway",
    "start_scripted_fixture",
    "upstream_fixture",
)


@pytest.fixture(name="hook")
async def hook_fixture() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    async with receiver() as made:
        yield made


@pytest.fixture(name="gateway")
async def gateway_fixture(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service, with receivers on this machine allowed and short pauses."""
    return await start_gateway(upstream, **QUICK)
