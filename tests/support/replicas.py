"""Replicas of the service as processes of their own, with short times, on one database and before one emulator."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import yaml
from aiohttp import ClientSession, ClientTimeout

from tests.support.forked import ForkedProcess
from tests.support.gateway import MODEL
from tests.support.processes import ServiceProcess
from tests.support.replies import Json
from tests.support.upstreams import KEY

#: Times that make a test short.
HASTY = {
    "lease_seconds": 2.0,
    "claim_interval": 0.1,
    "poll_interval": 0.05,
    "poll_interval_max": 0.2,
    "upstream_settle": 0.3,
    "usage_interval": 0.1,
    "drain_timeout": 0.2,
}
_PATIENCE = 60.0
_HEARD = 0.05


class Overloaded(AssertionError):
    """The service has refused a create because it, or its database, cannot take more (503)."""


class Replica:
    """One process of the service, and a client of it."""

    def __init__(self, folder: Path, database_url: str, upstream: str, **settings: Any) -> None:
        entry = {"model": "gemini/*", "api_key": KEY, "api_base": upstream}
        config = {
            "model_list": [{"model_name": "*", "litellm_params": entry, "model_info": {"id": "emulated"}}],
            "general_settings": {"database_url": database_url, "port": 0, **HASTY, **settings},
        }
        self._config = folder / f"replica-{id(self)}.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._process: ServiceProcess
        self._session: ClientSession

    async def start(self) -> Replica:
        """Start it, and wait until it listens."""
        arguments = ["serve", "--config", str(self._config)]
        self._process = await asyncio.to_thread(
            lambda: ServiceProcess(arguments, start=ForkedProcess).wait_ready()
        )
        self._session = ClientSession(self._process.url, timeout=ClientTimeout(total=_PATIENCE))
        return self

    @property
    def log(self) -> list[str]:
        return self._process.log

    async def kill(self) -> None:
        """End it as a power cut would."""
        await asyncio.to_thread(self._process.kill)
        # Whoever waits for an answer hears of the end from the connection; a session that is closed tells nobody.
        await asyncio.sleep(_HEARD)
        await self._session.close()

    async def stop(self) -> None:
        """Ask it to end; it may have ended before."""
        await self._session.close()
        with suppress(ProcessLookupError):
            self.resume()
        await asyncio.to_thread(self._process.stop)

    def pause(self) -> None:
        """Stop it in the middle of whatever it does."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on from there."""
        os.kill(self._process.pid, signal.SIGCONT)

    async def create(self, text: str, *, wish: str = "", fault: str = "", **members: Any) -> Json:
        """A create that is answered."""
        body = {"input": text, **({} if "agent" in members else {"model": MODEL}), **members}
        headers = {"x-emulator-behavior": wish, "x-emulator-fault": fault}
        async with self._session.post("/v1beta/interactions", json=body, headers=headers) as response:
            raw = await response.read()
            if response.status == 503:
                raise Overloaded(raw)
            assert response.status == 200, (raw, self.log[-3:])
            answer: Json = orjson.loads(raw)
            return answer

    async def begin(self, text: str, *, wish: str = "", fault: str = "", **members: Any) -> str:
        """A streamed create, left by its client after the first bytes; the interaction's id."""
        body = {"model": MODEL, "input": text, "stream": True, **members}
        headers = {"x-emulator-behavior": wish, "x-emulator-fault": fault}
        async with self._session.post("/v1beta/interactions", json=body, headers=headers) as response:
            if response.status == 503:
                raise Overloaded(await response.read())
            assert response.status == 200
            await response.content.readany()
            response.close()
            return response.headers["x-interaction-id"]

    async def got(self, name: str, **query: str) -> Json:
        """GET an interaction that must be there."""
        async with self._session.get(f"/v1beta/interactions/{name}", params=query) as response:
            raw = await response.read()
            assert response.status == 200, (raw, self.log[-3:])
            answer: Json = orjson.loads(raw)
            return answer

    async def events(self, name: str, **query: str) -> bytes:
        """GET the events of an interaction, all of them."""
        params = {"stream": "true", **query}
        async with self._session.get(f"/v1beta/interactions/{name}", params=params) as response:
            assert response.status == 200
            return await response.read()

    async def cancel(self, name: str) -> tuple[int, Json]:
        """Cancel an interaction."""
        async with self._session.post(f"/v1beta/interactions/{name}/cancel") as response:
            return response.status, await response.json()


async def until(check: Callable[[], Any]) -> None:
    """Wait for something that must become true."""
    async with asyncio.timeout(_PATIENCE):
        while not await check():
            await asyncio.sleep(0.02)
