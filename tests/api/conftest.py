"""The service in this process, with an emulator behind it that the test can reach.

What is tested here does not depend on the database, so there is one kind of it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

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
    "running_fixture",
    "start_emulator_fixture",
    "start_scripted_fixture",
    "upstream_fixture",
)


@pytest.fixture
def start_gateway(running: AsyncExitStack, sqlite_url: str) -> StartGateway:
    """Start the service with some settings; all of a test's services share the database."""
    return gateway_starter(running, sqlite_url)
