"""The service in this process, on each database, with an emulator behind it that the test can reach."""

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
from tests.support.reconciling import reconciles_fixture

__all__ = (
    "gateway_fixture",
    "reconciles_fixture",
    "running_fixture",
    "start_emulator_fixture",
    "start_scripted_fixture",
    "upstream_fixture",
)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind, without rows."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def start_gateway(running: AsyncExitStack, database_url: str) -> StartGateway:
    """Start the service with some settings; all of a test's services share the database."""
    return gateway_starter(running, database_url)
