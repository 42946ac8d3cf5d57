"""Connections to upstream are used again, also after a stream, whose last bytes come after its last event."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from service.emulator import EmulatorConfig, create_emulator
from tests.support.processes import ServiceProcess
from tests.support.reconciling import assert_reconciles

_STREAMS = 6
_CREATE = {"model": "gemini-2.5-flash", "input": "Hello", "stream": True}


async def test_streams_one_after_the_other_share_a_connection(tmp_path: Path) -> None:
    callers: set[tuple[str, int]] = set()
    emulator = create_emulator(EmulatorConfig(token_delay=0.001))

    async def note(request: web.Request, response: web.StreamResponse) -> None:
        assert request.transport is not None
        callers.add(request.transport.get_extra_info("peername"))

    emulator.on_response_prepare.append(note)
    database_url = f"sqlite:///{tmp_path / 'interactions.db'}"
    arguments = ["serve", "--port", "0", "--database-url", database_url]
    async with TestServer(emulator) as upstream, ClientSession() as session:
        environment = {"GEMINI_API_BASE": str(upstream.make_url("")), "GEMINI_API_KEY": "upstream-key"}
        service = await asyncio.to_thread(lambda: ServiceProcess(arguments, environment).wait_ready())
        try:
            for _ in range(_STREAMS):
                async with session.post(f"{service.url}/v1beta/interactions", json=_CREATE) as answer:
                    assert "interaction.completed" in await answer.text()
                # The connection is free once upstream has ended its body, a moment after the client's.
                await asyncio.sleep(0.05)
            await assert_reconciles(database_url)
        finally:
            service.stop()
    assert len(callers) < _STREAMS / 2
    assert not [line for line in service.log if "level=error" in line]
