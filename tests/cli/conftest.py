"""A PostgreSQL database beside the SQLite files that commands make for themselves."""

from __future__ import annotations

import uuid

import pytest

from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def module_postgres_url(postgres_server: PostgresServer, postgres_template: str) -> str:
    """A migrated PostgreSQL database for all tests of a module."""
    return postgres_server.create_database(f"module_{uuid.uuid4().hex}", postgres_template)
