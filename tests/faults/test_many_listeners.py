"""Hundreds of clients on one stream, half of which stop reading: memory stays bounded, the others are level with it.

Of those that stop, every fourth is of the older generation, which is told a translation.

``LISTENERS`` sets how many there are.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from tests.support.replies import Json
from tests.support.stream_processes import Replica, replicas
from tests.support.upstreams import Scripted, sse

LISTENERS = int(os.environ.get("LISTENERS", "200"))
EVENTS = 160
#: Events after which upstream waits until everybody who goes on reading has them, and how many there are by then.
HALF = EVENTS // 2
_TOLD_BY_THEN = HALF + 2
_EVENT_ID = b'"event_id"'
TEXT = "x" * 16 * 1024
#: What a client that is behind may cost, and what the process takes for everything else that it does meanwhile.
_EACH = 192 * 1024
_OTHERWISE = 48 * 1024 * 1024
BODY: Json = {"model": "gemini-2.5-flash", "input": "Tell me"}


def delta(number: int) -> Json:
    return {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": f"{number} {TEXT}"}}


@pytest.mark.timeout(60 + LISTENERS)
async def test_clients_that_stop_reading_cost_little_and_hold_up_nobody(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    database = f"sqlite:///{tmp_path / 'interactions.db'}"
    everybody, level = asyncio.Event(), asyncio.Event()
    read: list[int] = [0] * (LISTENERS // 2)

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        created = {
            "event_type": "interaction.created",
            "interaction": {"id": "v1_m", "status": "in_progress"},
        }
        started = {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}}
        await response.write(sse(created, started, done=False))
        await everybody.wait()
        for number in range(EVENTS):
            if number == HALF:
                await level.wait()
            await response.write(sse(delta(number), done=False))
        ended = {
            "event_type": "interaction.completed",
            "interaction": {"id": "v1_m", "status": "completed", "usage": {"total_tokens": 1}},
        }
        await response.write(sse({"event_type": "step.stop", "index": 0}, ended))
        return response

    upstream = Scripted(script)
    await upstream.server.start_server()
    try:
        async with replicas(1, database, upstream.url) as (service,), service.create(BODY) as live:
            await live.next()
            with ExitStack() as sockets:
                stopped = [
                    sockets.enter_context(await _stopped(service, live.id, legacy=number % 4 == 3))
                    for number in range(LISTENERS // 2)
                ]
                reading = [
                    asyncio.create_task(_read(service, live.id, read, number)) for number in range(len(read))
                ]
                # Both events that there are so far.
                while min(read) < 2:
                    await asyncio.sleep(0.01)
                process = psutil.Process(service.process.pid)
                before = process.memory_info().rss
                everybody.set()
                whole_stream = asyncio.create_task(live.rest())
                # Upstream goes on only when all who read have what it has sent, though the others have not.
                while min(read) < _TOLD_BY_THEN:
                    await asyncio.sleep(0.01)
                at_half = max(read)
                level.set()
                whole = await whole_stream
                told = await asyncio.gather(*reading)
                grown = process.memory_info().rss - before
                steps = [client for number, client in enumerate(stopped) if number % 4 != 3]
                late = await asyncio.gather(*(_whole(client) for client in steps[:10]))
    finally:
        await upstream.close()
    size = len(whole.raw)
    counts = (
        f"{LISTENERS} listeners of a stream of {size / 1e6:.1f} MB, half of them not reading: "
        f"the process grew by {grown / 1e6:.0f} MB, {grown / LISTENERS / 1024:.0f} KiB for each"
    )
    record_property("counts", counts)
    assert at_half == _TOLD_BY_THEN, counts
    assert whole.final["status"] == "completed", counts
    assert len(whole.events) == EVENTS + 4, counts
    assert set(told) == {sha256(whole.raw).digest()}, counts
    assert grown < _OTHERWISE + LISTENERS * _EACH < LISTENERS // 2 * size / 2, counts
    # Who begins to read again, however late, has missed nothing.
    assert {sha256(body).digest() for body in late} == {sha256(whole.raw).digest()}, counts


async def _read(service: Replica, name: str, read: list[int], number: int) -> bytes:
    """Read to the end, and count the events meanwhile."""
    digest = sha256()
    end = b""
    async with service.attach(name) as live:
        async for chunk in live.response.content.iter_any():
            digest.update(chunk)
            seen = end + chunk
            read[number] += seen.count(_EVENT_ID)
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
