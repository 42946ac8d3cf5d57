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
        #: Connections of an earlier number carry nothing any more.
        self._number = 0
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def silent(self, *, loses: bool = False) -> AsyncIterator[None]:
        """Nothing arrives meanwhile; with ``loses`` nothing ever does on a connection that was made before the end."""
        self._carrying.clear()
        try:
            yield
        finally:
            self._number += loses
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
        number = self._number
        try:
            await self._carried(number)
            ours, theirs = await asyncio.open_unix_connection(self._socket)
            try:
                await asyncio.gather(self._pump(reader, theirs, number), self._pump(ours, writer, number))
            finally:
                theirs.transport.abort()
        finally:
            writer.transport.abort()

    async def _carried(self, number: int) -> None:
        await self._carrying.wait()
        if number != self._number:
            await asyncio.Event().wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._carried(number)
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
