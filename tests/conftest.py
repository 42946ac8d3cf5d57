"""Shared fixtures: both databases, a running service with the emulator behind it."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from service.store import migrate
from tests.support.postgres import PostgresServer
from tests.support.processes import ServiceProcess
from tests.support.shared_database import SHARED, SharedDatabase

# How long an example takes says more about the machine than about the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL of this test run's own."""
    # Not below pytest's own folder: another run of the same user closes that to the user the server runs as.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """A migrated PostgreSQL database without rows to copy: quicker than migrating one for each test."""
    name = f"template_{uuid.uuid4().hex}"
    asyncio.run(migrate.upgrade(postgres_server.create_database(name)))
    return name


@pytest.fixture
def own_postgres_url(postgres_server: PostgresServer, postgres_template: str) -> str:
    """A migrated PostgreSQL database for one test, which may do with it what it likes."""
    return postgres_server.create_database(f"s{uuid.uuid4().hex}", postgres_template)


@pytest.fixture(scope="session")
def shared_database(postgres_server: PostgresServer, postgres_template: str) -> Iterator[SharedDatabase]:
    """A migrated PostgreSQL database for all tests that only put rows into it."""
    shared = SharedDatabase(postgres_server.create_database(f"shared_{uuid.uuid4().hex}", postgres_template))
    yield shared
    shared.close()


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, shared_database: SharedDatabase) -> str:
    """A migrated PostgreSQL database without rows."""
    shared_database.empty()
    request.node.stash[SHARED] = shared_database
    return shared_database.url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file without rows to copy."""
    path = tmp_path_factory.mktemp("template") / "interactions.db"
    asyncio.run(migrate.upgrade(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of the test's own."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path)}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'interactions.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create_database(f"t{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service as users start it, with the emulator behind it and the master key ``test-key``."""
    database = tmp_path_factory.mktemp("service") / "interactions.db"
    with ServiceProcess(
        ["serve", "--emulator", "--port", "0", "--database-url", f"sqlite:///{database}"],
        {"INTERACTIONS_MASTER_KEY": "test-key"},
    ) as service:
        yield service.url


def pytest_collection_finish() -> None:
    """What is there when the tests begin is there until they end: the collector need not look at it again."""
    gc.freeze()
