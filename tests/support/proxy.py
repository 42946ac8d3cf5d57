"""A network between the service and PostgreSQL that can fall silent: nothing is refused, and nothing arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Proxy:
    """Carries bytes in both directions unless it is ``silent``; what was held back arrives afterwards, or is lost."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._carrying = asyncio.Event()
        self._carrying.set()
        self._loses = False
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def silent(self, *, loses: bool = False) -> AsyncIterator[None]:
        """Nothing arrives meanwhile; with ``loses`` nothing ever does on a connection that was used."""
        self._carrying.clear()
        self._loses = loses
        try:
            yield
        finally:
            self._carrying.set()

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def close(self) -> None:
        """Cut every connection."""
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._carried()
            ours, theirs = await asyncio.open_unix_connection(self._socket)
            try:
                await asyncio.gather(self._pump(reader, theirs), self._pump(ours, writer))
            finally:
                theirs.transport.abort()
        finally:
            writer.transport.abort()

    async def _carried(self) -> None:
        if not self._carrying.is_set() and self._loses:
            await asyncio.Event().wait()
        await self._carrying.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._carried()
                writer.write(data)
                await writer.drain()
            writer.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """The URL of the same database behind a proxy, and the proxy; the database's own URL names a folder of sockets."""
    parts = urlsplit(url)
    proxy = Proxy(_socket(*parse_qs(parts.query)["host"]))
    server = await asyncio.start_server(proxy.connect, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"postgresql://{parts.username}:@{host}:{port}{parts.path}?sslmode=disable", proxy
    finally:
        server.close()
        await proxy.close()


def _socket(folder: str) -> Path:
    (socket,) = (path for path in Path(folder).glob(".s.PGSQL.*") if path.suffix != ".lock")
    return socket
