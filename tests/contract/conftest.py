"""The official clients, pointed at the running service or at one in this process, on each database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.contract.official import API_KEY, SDKS, Client, Process, Processes
from tests.interactions.conftest import database_url
from tests.support.gateways import (
    StartGateway,
    gateway_fixture,
    gateway_starter,
    running_fixture,
    start_emulator_fixture,
    upstream_fixture,
)
from tests.support.postgres import PostgresServer
from tests.support.processes import ServiceProcess
from tests.support.tls import self_made_certificate

__all__ = (
    "database_url",
    "gateway_fixture",
    "running_fixture",
    "start_emulator_fixture",
    "upstream_fixture",
)

pytest.register_assert_rewrite("tests.contract.conversing")


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """The drivers of the official clients."""
    _, certificate = self_made_certificate(tmp_path_factory.mktemp("authorities"), "localhost")
    with Processes(certificate) as processes:
        yield processes


@pytest.fixture(scope="session", params=SDKS, ids=lambda sdk: sdk.name)
def sdk_process(request: pytest.FixtureRequest, processes: Processes) -> Process:
    """A driver for each official client in turn."""
    return processes.of(request.param)


@pytest.fixture(scope="session")
def postgres_service_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A running service like that of `service_url`, on PostgreSQL."""
    arguments = ["serve", "--emulator", "--port", "0"]
    database = postgres_server.create_database(f"c{uuid.uuid4().hex}")
    with ServiceProcess(
        [*arguments, "--database-url", database], {"INTERACTIONS_MASTER_KEY": API_KEY}
    ) as service:
        yield service.url


@pytest.fixture
def client(sdk_process: Process, service_url: str) -> Client:
    """An official client of the service."""
    return Client(sdk_process, service_url, API_KEY)


@pytest.fixture
def start_gateway(running: AsyncExitStack, database_url: str) -> StartGateway:
    """Start the service in this process with some settings, over an upstream that the test can reach."""
    return gateway_starter(running, database_url)
