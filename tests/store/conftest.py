"""Migrated databases of both kinds, and stores on them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.store import OpenStore, open_store


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
