"""Databases for commands: of a module's own, and behind a service in this process that a test can stop."""

from __future__ import annotations

import uuid

import pytest

from tests.audit.conftest import (
    running_fixture,
    start_emulator_fixture,
    start_gateway,
    store_url,
    upstream_fixture,
)
from tests.support.postgres import PostgresServer

__all__ = ("running_fixture", "start_emulator_fixture", "start_gateway", "store_url", "upstream_fixture")


@pytest.fixture(scope="module")
def module_postgres_url(postgres_server: PostgresServer, postgres_template: str) -> str:
    """A migrated PostgreSQL database for all tests of a module."""
    return postgres_server.create_database(f"module_{uuid.uuid4().hex}", postgres_template)
