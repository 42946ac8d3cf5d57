"""The readers of a process: an interaction has one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from service.interactions.attaching import Attaching
from service.interactions.log import EventLog
from service.interactions.reader import Reader
from service.interactions.readers import Readers
from service.settings import DeploymentSettings, Secret, Settings
from service.store.tables import NOBODY
from service.upstream.client import GeminiClient
from service.upstream.deployments import Deployments, build
from service.upstream.routing.router import Router
from service.upstream.transport import Transport
from tests.support.gateways import StartScripted
from tests.support.store import intent, open_store, running


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    opened = Transport()
    yield opened
    await opened.close()


async def test_a_second_reader_of_an_interaction_is_closed_and_the_first_goes_on(
    database_url: str, transport: Transport, start_scripted: StartScripted
) -> None:
    left = asyncio.Semaphore(0)

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.01)
        finally:
            left.release()

    upstream = await start_scripted(script)
    deployment = build(
        DeploymentSettings(
            id="d", model_name="m", model="m", api_key=Secret("s3cret"), api_base=upstream.url
        ),
        "tests/1",
    )
    client = GeminiClient(transport, request_timeout=30, stream_timeout=60.0)
    async with open_store(database_url) as opened:
        store = opened.store
        entry = intent(background=True)
        await store.begin(entry, b'{"model":"m","input":"hello"}')
        await store.finish(running(entry.id), b"{}")
        found = await store.find_held(entry.id)
        assert found is not None
        log = EventLog(store.events, NOBODY)
        router = Router(Settings(), Deployments(Settings(), "tests/1"))
        attaching = Attaching(store, client, log, 1.0, None, router)
        first, second = [await attaching.reader(found[0], deployment, 60.0) for _ in range(2)]
        assert isinstance(first, Reader)
        assert isinstance(second, Reader)
        readers = Readers()
        ended: list[Reader] = []
        readers.on_end = lambda reader, stopped: ended.append(reader)
        assert readers.start(first) is readers.start(second) is first.feed
        async with asyncio.timeout(20):
            await left.acquire()
        assert readers.reader(entry.id) is first
        await readers.drop({entry.id})
        assert ended == [first]
        assert len(readers) == 0
        await log.close()
