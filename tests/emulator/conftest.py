"""Emulators on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from service.emulator import EmulatorConfig, create_emulator
from tests.emulator.client import Start, Upstream


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start an emulator with some configuration."""
    async with AsyncExitStack() as stack:

        async def started(key: str = "key-a", **config: Any) -> Upstream:
            server = TestServer(create_emulator(EmulatorConfig(**config)))
            await stack.enter_async_context(server)
            session = ClientSession(server.make_url("/"), headers={"x-goog-api-key": key})
            await stack.enter_async_context(session)
            return Upstream(server, session)

        yield started


@pytest.fixture
async def upstream(start: Start) -> Upstream:
    """An emulator as it is by default."""
    return await start()
