"""Shared fixtures: both databases, a running service with the emulator behind it."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.processes import ServiceProcess


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL of this test run's own."""
    # Not below pytest's own folder: another run of the same user closes that to the user the server runs as.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.stop()


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
