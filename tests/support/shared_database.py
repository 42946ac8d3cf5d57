"""One PostgreSQL database that tests use one after the other, emptied and looked at through connections that stay.

A new connection has to learn the schema first, which takes longer than most tests when there are partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import pytest
from sqlalchemy import text

from service.sdk.loop_thread import LoopThread
from service.store.backend import Backend
from service.store.codec import Codec
from service.store.engine import open_backend
from service.store.statement import Query
from service.store.tables import metadata

T = TypeVar("T")

_DELETIONS: Final = ", ".join(
    f"of_{table} AS (DELETE FROM {table})" for table in metadata.tables if table != "projects"
)
# Tests look at the server's statistics for what a service does: what these connections did is counted before that.
_COUNTED: Final = "SELECT pg_stat_force_next_flush()::text"
_EMPTY: Final = Query("empty all tables", text(f"WITH {_DELETIONS} {_COUNTED}"))
_COUNT: Final = Query("count what was read", text(_COUNTED))


class SharedDatabase:
    """A migrated database, which stays until it is closed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._thread = LoopThread()
        self._backend = open_backend(url, Codec(), pool_limit=1)
        self._thread.call(self._backend.start())

    def empty(self) -> None:
        """Delete all rows but those of projects."""
        self._thread.call(self._backend.fetch(_EMPTY, {}))

    def asked(self, work: Callable[[Backend], Coroutine[Any, Any, T]]) -> T:
        """What comes of some reads of it."""

        async def result() -> T:
            found = await work(self._backend)
            await self._backend.fetch(_COUNT, {})
            return found

        return self._thread.call(result())

    def close(self) -> None:
        """Let go of it."""
        self._thread.call(self._backend.close())
        self._thread.stop()


#: The database that a test has been given, if it is a shared one.
SHARED: Final = pytest.StashKey[SharedDatabase]()
