"""The service in this process, on each database, with an emulator behind it that the test can reach."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from service.store import migrate
from tests.support.gateways import (
    StartGateway,
    gateway_fixture,
    gateway_starter,
    running_fixture,
    start_emulator_fixture,
    start_scripted_fixture,
    upstream_fixture,
)
from tests.support.postgres import PostgresServer

__all__ = (
    "gateway_fixture",
    "running_fixture",
    "start_emulator_fixture",
    "start_scripted_fixture",
    "upstream_fixture",
)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database without rows."""
    path = tmp_path_factory.mktemp("template") / "interactions.db"
    asyncio.run(migrate.upgrade(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a migrated PostgreSQL database without rows."""
    name = f"template{uuid.uuid4().hex}"
    asyncio.run(migrate.upgrade(postgres_server.create_database(name)))
    return name


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated database of each kind: these tests are many, and migrations have tests of their own."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "interactions.db")
        return f"sqlite:///{tmp_path / 'interactions.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create_database(f"t{uuid.uuid4().hex}", request.getfixturevalue("postgres_template"))


@pytest.fixture
def start_gateway(running: AsyncExitStack, database_url: str) -> StartGateway:
    """Start the service with some settings; all of a test's services share the database."""
    return gateway_starter(running, database_url)
