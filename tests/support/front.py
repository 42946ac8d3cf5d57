"""A network between a client and the service that loses answers on their way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Front:
    """Carries bytes in both directions, but cuts a connection instead of its first answer while ``losses`` last."""

    def __init__(self, url: str) -> None:
        self._origin = urlsplit(url)
        self._connections: set[asyncio.Task[None]] = set()
        self.losses = 0

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
        ours, theirs = await asyncio.open_connection(self._origin.hostname, self._origin.port)
        try:
            sending = asyncio.create_task(self._pump(reader, theirs))
            await self._answer(ours, writer)
            sending.cancel()
        finally:
            theirs.transport.abort()
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65536)
        if self.losses:
            self.losses -= 1
            return
        writer.write(first)
        await self._pump(reader, writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def fronted(url: str) -> AsyncIterator[tuple[str, Front]]:
    """The address of the service behind such a network, and the network."""
    front = Front(url)
    server = await asyncio.start_server(front.connect, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}", front
    finally:
        server.close()
        await front.close()
