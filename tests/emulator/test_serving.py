"""The emulator behind the server that its command starts."""

from __future__ import annotations

import asyncio
import logging

import pytest
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


async def test_an_upload_that_its_client_abandons_is_told_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runner = TolerantRunner(create_emulator())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"POST /v1beta/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        async with asyncio.timeout(10):
            while not [text for text in caplog.messages if text.startswith("a client left")]:
                await asyncio.sleep(0.01)
    finally:
        await runner.cleanup()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]
