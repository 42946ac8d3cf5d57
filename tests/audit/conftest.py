"""The service on both databases, with an emulator behind it, and migrated databases without a service."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.store.conftest import opened, store_url
from tests.support.gateways import (
    StartGateway,
    gateway_fixture,
    gateway_starter,
    running_fixture,
    start_emulator_fixture,
    start_scripted_fixture,
    upstream_fixture,
)

__all__ = (
    "gateway_fixture",
    "opened",
    "running_fixture",
    "start_emulator_fixture",
    "start_scripted_fixture",
    "store_url",
    "upstream_fixture",
)


@pytest.fixture
def start_gateway(running: AsyncExitStack, store_url: str) -> StartGateway:
    """Start the service with some settings, on a database of each kind."""
    return gateway_starter(running, store_url)
