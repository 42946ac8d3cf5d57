"""The service in this process, on each database, with an emulator behind it that the test can reach."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack

import asyncpg
import pytest

from service.store import migrate
from service.store.tables import metadata
from tests.support.gateways import (
    StartGateway,
    gateway_fixture,
    gateway_starter,
    running_fixture,
    sqlite_template_fixture,
    sqlite_url_fixture,
    start_emulator_fixture,
    start_scripted_fixture,
    upstream_fixture,
)
from tests.support.postgres import PostgresServer
from tests.support.reconciling import reconciles_fixture

__all__ = (
    "gateway_fixture",
    "reconciles_fixture",
    "running_fixture",
    "sqlite_template_fixture",
    "sqlite_url_fixture",
    "start_emulator_fixture",
    "start_scripted_fixture",
    "upstream_fixture",
)


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """A migrated PostgreSQL database; making one takes longer than most tests."""
    url = postgres_server.create_database(f"t{uuid.uuid4().hex}")
    asyncio.run(migrate.upgrade(url))
    return url


@pytest.fixture
def postgres_url(migrated_postgres: str) -> str:
    """That database, without rows."""
    asyncio.run(_clear(migrated_postgres))
    return migrated_postgres


async def _clear(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "".join(f"DELETE FROM {table};" for table in metadata.tables if table != "projects")
        )
    finally:
        await connection.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind, without rows."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def start_gateway(running: AsyncExitStack, database_url: str) -> StartGateway:
    """Start the service with some settings; all of a test's services share the database."""
    return gateway_starter(running, database_url)
