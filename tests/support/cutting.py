"""A network between a client and a service that cuts streams where a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

_BOUNDARY = b"\n\n"


class CuttingProxy:
    """Carries bytes; cuts a connection after so many events, ``cut_after``, and so many ``bytes_more``.

    ``cuts`` is how many connections it cuts. While ``down`` it takes no connection.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.url = ""
        self.cut_after = 1
        self.bytes_more = 0
        self.cuts = 0
        self.down = False
        #: Connections so far that events came through.
        self.streams = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()
            return
        ours, theirs = await asyncio.open_connection(self._host, self._port)
        upwards = asyncio.create_task(_pump(reader, theirs))
        try:
            with suppress(OSError):
                await self._downwards(ours, writer)
        finally:
            upwards.cancel()
            theirs.transport.abort()
            # Not aborted: what was written arrives before the end does.
            writer.close()

    async def _downwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry answers; the end of an event is a blank line, which the chunks of a body never split here."""
        events = 0
        while data := await reader.read(65536):
            if data.startswith(b"HTTP/"):
                events = 0
            if b"data: " in data and not events:
                self.streams += 1
            found = data.count(_BOUNDARY)
            if self.cuts and events + found >= self.cut_after:
                end = 0
                for _ in range(self.cut_after - events):
                    end = data.index(_BOUNDARY, end) + len(_BOUNDARY)
                self.cuts -= 1
                writer.write(data[: end + self.bytes_more])
                return
            events += found
            writer.write(data)
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def cutting(url: str) -> AsyncIterator[CuttingProxy]:
    """The service at this URL behind such a network."""
    proxy = CuttingProxy(url)
    server = await asyncio.start_server(proxy.connect, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    proxy.url = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
