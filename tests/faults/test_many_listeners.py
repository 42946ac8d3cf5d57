"""Hundreds of clients on two streams, half of which stop reading: memory stays bounded, the others are not delayed.

All that stop listen to one of the streams, every fourth of them as one of the older generation, which is told a
translation. Upstream sends the next event of a stream when all who read it have the last one. So it is known what an
event takes to the slowest of them, on both streams at the same time: where clients have stopped it must be as quick as
where none has.

``LISTENERS`` sets how many clients there are.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import monotonic

import orjson
import psutil
import pytest
from aiohttp import web

from tests.support.postgres import PostgresServer
from tests.support.replies import Json, Streamed
from tests.support.stream_processes import Replica, replicas
from tests.support.upstreams import Scripted, sse

LISTENERS = int(os.environ.get("LISTENERS", "200"))
#: How many there are on each database.
ON = {"sqlite": LISTENERS, "postgres": LISTENERS * 3 // 5}
EVENTS = 160
#: Events that there are before the first delta.
_BEGINNING = 2
_EVENT_ID = b'"event_id"'
TEXT = "x" * 16 * 1024
#: What a client that is behind may cost, and what the process takes for everything else that it does meanwhile.
_EACH = 192 * 1024
_OTHERWISE = 48 * 1024 * 1024
#: How many times as long as on the other stream an event may take where clients have stopped: these are written to as
#: well until their connections are full, and there are twice as many of them as of those who read.
_AS_QUICK = 3.0


@dataclass(slots=True)
class Level:
    """How many events each of those who read a stream has, and what each event took to the slowest."""

    counts: list[int]
    delays: list[float] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, number: int, count: int) -> None:
        """One of them has got so many more."""
        self.counts[number] += count
        self._news.set()

    async def reached(self, count: int) -> None:
        """Wait until all have so many."""
        while min(self.counts) < count:
            self._news.clear()
            await self._news.wait()


def delta(number: int) -> Json:
    return {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": f"{number} {TEXT}"}}


@pytest.fixture(params=ON)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the database."""
    return str(request.param)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'interactions.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create_database(f"l{uuid.uuid4().hex}")


@pytest.mark.timeout(300 + 2 * LISTENERS)
async def test_clients_that_stop_reading_cost_little_and_hold_up_nobody(
    kind: str, database_url: str, record_property: Callable[[str, object], None]
) -> None:
    listeners = ON[kind]
    levels = {name: Level([0] * (listeners // 4)) for name in ("disturbed", "calm")}
    everybody = asyncio.Event()
    upstream = Scripted(lambda request: _upstream(request, levels, everybody))
    await upstream.server.start_server()
    try:
        async with replicas(1, database_url, upstream.url) as (service,), AsyncExitStack() as streams:
            lives = {
                name: await streams.enter_async_context(service.create(_asking(name))) for name in levels
            }
            for live in lives.values():
                await live.next()
            with ExitStack() as sockets:
                stopped = [
                    sockets.enter_context(
                        await _stopped(service, lives["disturbed"].id, legacy=number % 4 == 3)
                    )
                    for number in range(listeners // 2)
                ]
                reading = {
                    name: [
                        asyncio.create_task(_read(service, lives[name].id, level, number))
                        for number in range(len(level.counts))
                    ]
                    for name, level in levels.items()
                }
                for level in levels.values():
                    await level.reached(_BEGINNING)
                process = psutil.Process(service.process.pid)
                before = process.memory_info().rss
                everybody.set()
                whole = dict(
                    zip(lives, await asyncio.gather(*(live.rest() for live in lives.values())), strict=True)
                )
                told = {name: set(await asyncio.gather(*tasks)) for name, tasks in reading.items()}
                grown = process.memory_info().rss - before
                steps = [client for number, client in enumerate(stopped) if number % 4 != 3]
                late = await asyncio.gather(*(_whole(client) for client in steps[:10]))
    finally:
        await upstream.close()
    size = len(whole["disturbed"].raw)
    delays = {name: median(level.delays) for name, level in levels.items()}
    counts = (
        f"{listeners} listeners of two streams of {size / 1e6:.1f} MB, half of them not reading: the process grew by "
        f"{grown / 1e6:.0f} MB, {grown / listeners / 1024:.0f} KiB for each; an event took "
        f"{delays['disturbed'] * 1000:.1f} ms to all {len(levels['disturbed'].counts)} who read, and "
        f"{delays['calm'] * 1000:.1f} ms where nobody had stopped"
    )
    record_property("counts", counts)
    for name, streamed in whole.items():
        _assert_whole(streamed, counts)
        assert told[name] == {sha256(streamed.raw).digest()}, counts
        # Each was with all who read before the next one was sent.
        assert len(levels[name].delays) == EVENTS, counts
    assert delays["disturbed"] < _AS_QUICK * delays["calm"], counts
    assert grown < _OTHERWISE + listeners * _EACH < listeners // 2 * size / 2, counts
    # Who begins to read again, however late, has missed nothing.
    assert {sha256(body).digest() for body in late} == told["disturbed"], counts


async def _upstream(
    request: web.Request, levels: dict[str, Level], everybody: asyncio.Event
) -> web.StreamResponse:
    """A stream whose events wait for those who read."""
    name = orjson.loads(await request.read())["input"]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    created = {"event_type": "interaction.created", "interaction": {"id": name, "status": "in_progress"}}
    started = {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}}
    await response.write(sse(created, started, done=False))
    await everybody.wait()
    for number in range(EVENTS):
        began = monotonic()
        await response.write(sse(delta(number), done=False))
        await levels[name].reached(_BEGINNING + number + 1)
        levels[name].delays.append(monotonic() - began)
    ended = {
        "event_type": "interaction.completed",
        "interaction": {"id": name, "status": "completed", "usage": {"total_tokens": 1}},
    }
    await response.write(sse({"event_type": "step.stop", "index": 0}, ended))
    return response


def _asking(name: str) -> Json:
    return {"model": "gemini-2.5-flash", "input": name}


def _assert_whole(streamed: Streamed, counts: str) -> None:
    assert streamed.final["status"] == "completed", counts
    assert len(streamed.events) == EVENTS + 4, counts


async def _read(service: Replica, name: str, level: Level, number: int) -> bytes:
    """Read to the end, and count the events meanwhile."""
    digest = sha256()
    end = b""
    async with service.attach(name) as live:
        async for chunk in live.response.content.iter_any():
            digest.update(chunk)
            seen = end + chunk
            level.add(number, seen.count(_EVENT_ID))
            end = seen[1 - len(_EVENT_ID) :]
    return digest.digest()


async def _stopped(service: Replica, name: str, *, legacy: bool) -> socket.socket:
    """A client that asks for the events, sees the answer begin, and reads no more."""
    host, _, port = service.process.url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    # Without chunks the body is what is read after the head, up to the end of the connection.
    revision = "2026-05-07" if legacy else "2026-05-20"
    head = f"GET /v1beta/interactions/{name}?stream=true HTTP/1.0\r\nHost: {host}\r\napi-revision: {revision}\r\n\r\n"
    await loop.sock_sendall(client, head.encode())
    assert await loop.sock_recv(client, 1) == b"H"
    return client


async def _whole(client: socket.socket) -> bytes:
    """What it gets when it reads on."""
    loop = asyncio.get_running_loop()
    pieces = []
    while piece := await loop.sock_recv(client, 65536):
        pieces.append(piece)
    return b"".join(pieces).partition(b"\r\n\r\n")[2]
