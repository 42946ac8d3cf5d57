"""The emulator behind the server that its command starts."""

from __future__ import annotations

from aiohttp import ClientSession, web

from service.api.server import TolerantRunner
from service.emulator import create_emulator
from tests.emulator.client import MODEL


async def test_the_second_refusal_is_answered_like_the_first() -> None:
    runner = TolerantRunner(create_emulator())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        url = f"http://{host}:{port}/v1beta/interactions"
        async with ClientSession(headers={"x-goog-api-key": "key"}) as session:
            for _ in range(3):
                async with session.post(url, json={"model": MODEL}) as response:
                    answer = await response.json()
                assert (response.status, answer["error"]["message"]) == (400, "Missing input.")
    finally:
        await runner.cleanup()
