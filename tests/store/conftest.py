"""Migrated databases of both kinds, and stores on them."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.store import migrate
from service.store.tables import PARTITIONED
from tests.support.postgres import PostgresServer
from tests.support.store import OpenStore, open_store, query


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """A migrated PostgreSQL database to copy: quicker than migrating one for each test."""
    name = f"template_{uuid.uuid4().hex}"
    asyncio.run(migrate.upgrade(postgres_server.create_database(name)))
    return name


@pytest.fixture(scope="session")
def shared_postgres_url(postgres_server: PostgresServer, postgres_template: str) -> str:
    """One copy for all tests that only put rows into it."""
    return postgres_server.create_database(f"shared_{uuid.uuid4().hex}", postgres_template)


@pytest.fixture
def own_postgres_url(postgres_server: PostgresServer, postgres_template: str) -> str:
    """A copy for one test, which may do with it what it likes."""
    return postgres_server.create_database(f"s{uuid.uuid4().hex}", postgres_template)


@pytest.fixture
def postgres_url(shared_postgres_url: str) -> str:
    """A migrated PostgreSQL database without rows."""
    others = ("inputs", "leases", "deployment_states", "series", "rollups", "split_hours", "holds")
    for table in (*PARTITIONED, *others):
        asyncio.run(query(shared_postgres_url, f"DELETE FROM {table}"))
    return shared_postgres_url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "interactions.db"
    asyncio.run(migrate.upgrade(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path)}"


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind, without rows."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def opened(store_url: str) -> AsyncIterator[OpenStore]:
    """A store on each kind of database."""
    async with open_store(store_url) as opened:
        yield opened
