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


class Endless:
    """An upstream whose streams go on until their reader leaves."""

    def __init__(self) -> None:
        self._left = asyncio.Semaphore(0)

    async def script(self, request: web.Request) -> web.StreamResponse:
        """Answer whoever attaches."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.01)
        finally:
            self._left.release()

    async def left(self) -> None:
        """Wait until one has left."""
        async with asyncio.timeout(20):
            await self._left.acquire()


@pytest.fixture
def upstream() -> Endless:
    return Endless()


@pytest.fixture
async def pair(
    database_url: str, transport: Transport, start_scripted: StartScripted, upstream: Endless
) -> AsyncIterator[tuple[Reader, Reader]]:
    """Two readers of one interaction, of which none has begun."""
    scripted = await start_scripted(upstream.script)
    deployment = build(
        DeploymentSettings(
            id="d", model_name="m", model="m", api_key=Secret("s3cret"), api_base=scripted.url
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
        yield first, second
        await log.close()


async def test_a_second_reader_of_an_interaction_is_closed_and_the_first_goes_on(
    pair: tuple[Reader, Reader], upstream: Endless
) -> None:
    first, second = pair
    readers = Readers()
    ended: list[Reader] = []
    readers.on_end = lambda reader, stopped: ended.append(reader)
    assert readers.start(first) is readers.start(second) is first.feed
    await upstream.left()
    assert readers.reader(first.feed.key) is first
    await readers.drop({first.feed.key})
    assert ended == [first]
    assert len(readers) == 0


async def test_a_reader_that_is_stopped_before_it_has_begun_leaves_upstream_and_its_listeners(
    pair: tuple[Reader, Reader], upstream: Endless
) -> None:
    first, second = pair
    second.close()
    await upstream.left()
    readers = Readers()
    feed = readers.start(first)
    await readers.drop({feed.key})
    await upstream.left()
    assert feed.ended
    assert feed.broken
