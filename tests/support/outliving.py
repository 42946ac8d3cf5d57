"""Fixtures of tests in which services end and others go on: what outlives them, and the services themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import Database
from tests.support.replicas import Replica
from tests.support.upstreams import Emulated

StartReplica = Callable[..., Awaitable[Replica]]

#: Queued for an hour of the emulator's clock, running for another.
SLOW = "background;queued=3600;running=3600"
#: Seconds in which all that runs comes to its end.
WHOLE = 1e6


@asynccontextmanager
async def outliving(**config: Any) -> AsyncIterator[Emulated]:
    """An emulator that outlives the services of a test."""
    emulated = Emulated(**config)
    await emulated.server.start_server()
    try:
        yield emulated
    finally:
        await emulated.close()


@pytest.fixture(name="upstream")
async def upstream_fixture() -> AsyncIterator[Emulated]:
    """An emulator whose streams go on when its clock is moved, one event a minute."""
    async with outliving(token_delay=60.0, stream_limit_seconds=1e9, foreground_event_ids=True) as emulated:
        yield emulated


@pytest.fixture(name="database")
async def database_fixture(database_url: str) -> AsyncIterator[Database]:
    """The database of all replicas."""
    looking = Database(database_url)
    yield looking
    await looking.close()


@pytest.fixture(name="start_replica")
async def start_replica_fixture(
    database: Database, upstream: Emulated, tmp_path: Path
) -> AsyncIterator[StartReplica]:
    """Start replicas, with these settings; all that are left are stopped after the test."""
    async with AsyncExitStack() as started:

        async def start(**settings: Any) -> Replica:
            replica = await Replica(tmp_path, database.url, upstream.url, **settings).start()
            started.push_async_callback(replica.stop)
            return replica

        yield start
