"""A server that says exactly what a test wants, byte for byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from service.upstream.connection import Origin
from service.upstream.response import Response


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; ``number`` counts the requests of its connection from 1."""

    line: str
    headers: dict[str, str]
    body: bytes
    number: int


class Connection:
    """One connection from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        #: Counts the connections of the server from 1.
        self.number = number
        self._requests = 0

    async def request(self) -> Request | None:
        """The next request, or None when the client has left."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        line, *lines = head[:-4].split("\r\n")
        headers = {name.lower(): value for name, _, value in (entry.partition(": ") for entry in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        self._requests += 1
        return Request(line, headers, body, self._requests)

    async def send(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        self.writer.writelines(parts)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection the hard way."""
        self.writer.transport.abort()


Behaviour = Callable[[Connection], Awaitable[None]]


class RawServer:
    """Lets a behaviour loose on each connection."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return len(self._writers)

    @property
    def origin(self) -> Origin:
        return Origin("127.0.0.1", self.port, False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the behaviour on a new connection and close it afterwards."""
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._behaviour(Connection(reader, writer, len(self._writers)))
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def stop(self) -> None:
        """Drop every connection and wait for their behaviours to end."""
        for writer in self._writers:
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def raw_server(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """A server on a free port of this machine."""
    server = RawServer(behaviour)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, limit=2**20)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(*parts: bytes) -> Behaviour:
    """Answer every request of a connection with these bytes."""

    async def behave(connection: Connection) -> None:
        while await connection.request() is not None:
            await connection.send(*parts)

    return behave


async def whole(response: Response) -> bytes:
    """The body of an answer, read as it arrives."""
    parts = []
    while part := await response.chunk():
        parts.append(part)
    return b"".join(parts)
