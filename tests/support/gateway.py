"""The application in this process, on a real socket, as a client and its operator see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

import orjson
from aiohttp import ClientResponse, ClientSession, ClientTimeout, web

from service.api.server import TolerantRunner
from service.app import build
from service.settings import Settings
from tests.support.database import Database
from tests.support.replies import Json, Live, Reply, Streamed

MODEL = "gemini-2.5-flash"
STEPS = {"api-revision": "2026-05-20"}
LEGACY = {"api-revision": "2026-05-07"}
_PATIENCE = 120.0
#: The client wants larger bodies as files.
_LARGE = 1024 * 1024


class Gateway:
    """A running service and a client of it. The client shows no sign of its generation unless a test adds one."""

    def __init__(self, settings: Settings) -> None:
        self._runner = TolerantRunner(build(settings), access_log=None, drain_timeout=settings.drain_timeout)
        self._session: ClientSession
        self.database = Database(settings.database_url)
        self.url = ""

    async def start(self) -> Gateway:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._session = ClientSession(self.url, timeout=ClientTimeout(total=_PATIENCE))
        return self

    async def stop(self) -> None:
        """Stop as on SIGTERM; the client's connections stay open until the service closes them."""
        await self._runner.cleanup()
        await self._session.close()
        await self.database.close()

    async def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, data: Any = None
    ) -> Reply:
        """Any request; the path is sent as it is."""
        if isinstance(data, bytes) and len(data) > _LARGE:
            data = BytesIO(data)
        async with self._session.request(method, path, headers=headers, data=data) as response:
            return await _whole(response)

    async def post(self, body: Json | bytes, **headers: str) -> Reply:
        """POST a create as it is."""
        return await self.request("POST", "/v1beta/interactions", headers=_named(headers), data=_bytes(body))

    async def create(
        self, content: Any = "Hello", *, wish: str = "", fault: str = "", **members: Any
    ) -> Reply:
        """Ask for an interaction; `wish` and `fault` are the emulator's."""
        return await self.post(_body(content, members), **_wishes(wish, fault))

    async def ask(self, content: Any = "Hello", *, wish: str = "", fault: str = "", **members: Any) -> Reply:
        """Create an interaction that must succeed."""
        reply = await self.create(content, wish=wish, fault=fault, **members)
        assert reply.status == 200, reply.raw
        return reply

    async def refused(self, status: int, content: Any = "Hello", *, fault: str = "", **members: Any) -> Reply:
        """Create an interaction that must be refused with this status, in Google's shape."""
        reply = await self.create(content, fault=fault, **members)
        assert reply.status == status, reply.raw
        assert reply.error
        return reply

    async def stream(
        self,
        content: Any = "Hello",
        *,
        wish: str = "",
        fault: str = "",
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> Streamed:
        """Create by a stream and read it to its end."""
        async with self.live(content, wish=wish, fault=fault, headers=headers, **members) as live:
            return await live.rest()

    @asynccontextmanager
    async def live(
        self,
        content: Any = "Hello",
        *,
        wish: str = "",
        fault: str = "",
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> AsyncIterator[Live]:
        """Create by a stream and look at it while it runs."""
        sent = {**_named(_wishes(wish, fault)), **(headers or {})}
        data = _bytes(_body(content, {**members, "stream": True}))
        async with self._session.post("/v1beta/interactions", data=data, headers=sent) as response:
            assert response.status == 200, await response.read()
            assert response.content_type == "text/event-stream"
            yield Live(response)

    async def get(self, name: str, *, headers: dict[str, str] | None = None, **query: str) -> Reply:
        """GET an interaction."""
        async with self._session.get(
            f"/v1beta/interactions/{name}", params=query, headers=headers
        ) as response:
            return await _whole(response)

    async def got(self, name: str, *, headers: dict[str, str] | None = None, **query: str) -> Reply:
        """GET an interaction that must be there."""
        reply = await self.get(name, headers=headers, **query)
        assert reply.status == 200, reply.raw
        return reply

    @asynccontextmanager
    async def attached(
        self, name: str, *, headers: dict[str, str] | None = None, **query: str
    ) -> AsyncIterator[Live]:
        """GET the events of an interaction and look at them as they come."""
        async with self._session.get(
            f"/v1beta/interactions/{name}", params={"stream": "true", **query}, headers=headers
        ) as response:
            assert response.status == 200, await response.read()
            assert response.content_type == "text/event-stream"
            yield Live(response)

    async def events(self, name: str, *, headers: dict[str, str] | None = None, **query: str) -> Streamed:
        """GET the events of an interaction, all of them."""
        async with self.attached(name, headers=headers, **query) as live:
            return await live.rest()

    async def cancel(self, name: str, **headers: str) -> Reply:
        """Cancel an interaction."""
        return await self.request("POST", f"/v1beta/interactions/{name}/cancel", headers=_named(headers))

    async def delete(self, name: str) -> Reply:
        """DELETE an interaction."""
        return await self.request("DELETE", f"/v1beta/interactions/{name}")

    async def finished(self, name: str) -> Reply:
        """GET an interaction again and again until it has ended."""
        async with asyncio.timeout(_PATIENCE):
            while (reply := await self.got(name)).body["status"] in ("queued", "in_progress"):
                await asyncio.sleep(0.01)
            return reply

    def tcp_delays(self) -> list[bool]:
        """For each connection of a client, whether small pieces wait for others (Nagle's algorithm)."""
        sockets = [transport.get_extra_info("socket") for transport in self._transports()]
        return [not one.getsockopt(IPPROTO_TCP, TCP_NODELAY) for one in sockets]

    def unsent(self) -> list[int]:
        """For each connection of a client, how many bytes the service holds for it."""
        return [transport.get_write_buffer_size() for transport in self._transports()]

    def _transports(self) -> list[asyncio.Transport]:
        server = self._runner.server
        assert server is not None
        transports = [connection.transport for connection in server.connections]
        return [transport for transport in transports if transport is not None]


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that must become true."""
    async with asyncio.timeout(_PATIENCE):
        while not await check():
            await asyncio.sleep(0.01)


async def _whole(response: ClientResponse) -> Reply:
    return Reply(response.status, response.headers, await response.read())


def _body(content: Any, members: Json) -> Json:
    """A create request; a member that is `...` is left out."""
    actor = {} if "agent" in members else {"model": MODEL}
    body = {**actor, "input": content, **members}
    return {name: value for name, value in body.items() if value is not ...}


def _bytes(body: Json | bytes) -> bytes:
    return body if isinstance(body, bytes) else orjson.dumps(body)


def _wishes(wish: str, fault: str) -> dict[str, str]:
    return {name: text for name, text in (("x_emulator_behavior", wish), ("x_emulator_fault", fault)) if text}


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
