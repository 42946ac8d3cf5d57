"""Processes of the service on one database, each as a client of its own sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.support.forked import ForkedProcess
from tests.support.processes import ServiceProcess
from tests.support.replies import Json, Live
from tests.support.upstreams import KEY

STEPS = {"api-revision": "2026-05-20"}
_PATIENCE = 60.0


class Replica:
    """One process, and a client of it."""

    def __init__(self, process: ServiceProcess, session: ClientSession) -> None:
        self.process = process
        self._session = session

    @asynccontextmanager
    async def create(self, body: Json, **headers: str) -> AsyncIterator[Live]:
        """Create by a stream and look at it while it runs."""
        sent = STEPS | {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.process.url}/v1beta/interactions"
        async with self._session.post(url, json={**body, "stream": True}, headers=sent) as response:
            assert response.status == 200, await response.read()
            yield Live(response)

    @asynccontextmanager
    async def attach(
        self, name: str, cursor: str = "", headers: dict[str, str] = STEPS
    ) -> AsyncIterator[Live]:
        """GET the events behind one and look at them as they come."""
        query = {"stream": "true", **({"last_event_id": cursor} if cursor else {})}
        url = f"{self.process.url}/v1beta/interactions/{name}"
        async with self._session.get(url, params=query, headers=headers) as response:
            assert response.status == 200, await response.read()
            yield Live(response)

    async def call(self, method: str, path: str) -> Json:
        """A unary request that must succeed, by its path behind the interactions."""
        url = f"{self.process.url}/v1beta/interactions/{path}"
        async with self._session.request(method, url, headers=STEPS) as response:
            body: Json = await response.json()
            assert response.status == 200, body
            return body

    async def commit_twice(self, body: Json) -> None:
        """Create what upstream refuses at once: only the commits of the intent and the outcome are waited for."""
        headers = {**STEPS, "x-emulator-fault": "status;code=403"}
        async with self._session.post(
            f"{self.process.url}/v1beta/interactions", json=body, headers=headers
        ) as response:
            assert response.status == 403, await response.read()

    async def refused(self, name: str, cursor: str) -> int:
        """The status with which the events behind one are refused."""
        url = f"{self.process.url}/v1beta/interactions/{name}"
        query = {"stream": "true", "last_event_id": cursor}
        async with self._session.get(url, params=query, headers=STEPS) as response:
            return response.status

    async def finished(self, name: str) -> Json:
        """GET an interaction again and again until it has ended."""
        async with asyncio.timeout(_PATIENCE):
            while (body := await self.call("GET", name))["status"] in ("queued", "in_progress"):
                await asyncio.sleep(0.02)
            return body

    async def kill(self) -> None:
        """End it as a power cut would."""
        await asyncio.to_thread(self.process.kill)


@asynccontextmanager
async def replicas(
    count: int, database_url: str, upstream: str, **settings: Any
) -> AsyncIterator[list[Replica]]:
    """So many processes, killed at the end; the settings are those of `general_settings`."""
    environment = {"GEMINI_API_BASE": upstream, "GEMINI_API_KEY": KEY}
    async with AsyncExitStack() as stack:
        config = Path(stack.enter_context(TemporaryDirectory())) / "service.yaml"
        general = {"database_url": database_url, "port": 0, **settings}
        config.write_text(yaml.safe_dump({"general_settings": general}))
        arguments = ["serve", "--config", str(config)]
        # As many connections as a test likes.
        connector = TCPConnector(limit=0)
        session = await stack.enter_async_context(
            ClientSession(connector=connector, timeout=ClientTimeout(total=_PATIENCE))
        )
        started = [ServiceProcess(arguments, environment, start=ForkedProcess) for _ in range(count)]
        for process in started:
            stack.push_async_callback(asyncio.to_thread, process.kill)
        for process in started:
            await asyncio.to_thread(process.wait_ready)
        yield [Replica(process, session) for process in started]
