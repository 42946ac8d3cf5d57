"""Clients of streams that are slow, read nothing, or know no chunks: none costs much or takes a loss for the end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import orjson
import pytest
from aiohttp import web

from service.api import stream_client
from service.settings.model import RouterSettings
from tests.support.gateway import STEPS, Gateway, eventually
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json
from tests.support.upstreams import Scripted, sse

CREATED: Json = {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}}
STARTED: Json = {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}}
ENDING: list[Json] = [
    {"event_type": "step.stop", "index": 0},
    {"event_type": "interaction.completed", "interaction": {"id": "v1_a", "status": "completed"}},
]
#: More than the system holds for a client that reads nothing.
LARGE = "x" * 6_000_000


def delta(text: str) -> Json:
    return {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": text}}


class Upstream:
    """Goes on with a stream when it is told what to send."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()

    def send(self, *events: Json) -> None:
        """Send events."""
        self._parts.put_nowait(sse(*events, done=False))

    def end(self) -> None:
        """End the stream; without its last event it is lost."""
        self._parts.put_nowait(None)

    async def script(self, request: web.Request) -> web.StreamResponse:
        """Answer a create."""
        if request.method == "GET":
            return web.json_response({"error": {"code": "not_found", "message": "Gone."}}, status=404)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(CREATED, STARTED, done=False))
        while (part := await self._parts.get()) is not None:
            await response.write(part)
        return response


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def scripted(start_scripted: StartScripted, upstream: Upstream) -> Scripted:
    """The server in front of it."""
    return await start_scripted(upstream.script)


async def connected(gateway: Gateway, held: int = 4096) -> socket.socket:
    """A client for which the system holds so many bytes."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, held)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
    return client


async def stopped(gateway: Gateway, name: str) -> socket.socket:
    """A client that asks for the events of an interaction, sees the answer begin, and reads no more."""
    client = await connected(gateway)
    loop = asyncio.get_running_loop()
    path = f"/v1beta/interactions/{name}?stream=true"
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\napi-revision: 2026-05-20\r\n\r\n"
    await loop.sock_sendall(client, head.encode())
    assert await loop.sock_recv(client, 1) == b"H"
    return client


async def created(gateway: Gateway, version: str, held: int = 4096, more: str = "") -> socket.socket:
    """A client that creates by a stream."""
    client = await connected(gateway, held)
    body = orjson.dumps({"model": "gemini-2.5-flash", "input": "Hello", "stream": True})
    head = (
        f"POST /v1beta/interactions HTTP/{version}\r\nHost: localhost\r\napi-revision: 2026-05-20\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    await asyncio.get_running_loop().sock_sendall(client, head.encode() + body)
    return client


async def received(client: socket.socket, until: bytes = b"") -> bytes:
    """What a client receives, to the end or until it has seen this."""
    got = b""
    async with asyncio.timeout(10):
        while not until or until not in got:
            part = await asyncio.get_running_loop().sock_recv(client, 1 << 16)
            if not part:
                break
            got += part
    return got


async def alone(gateway: Gateway, connections: int) -> None:
    """Wait until the service has so many connections left."""

    async def few() -> bool:
        return len(gateway.unsent()) <= connections

    await eventually(few)


async def test_a_large_event_does_not_wait_for_a_client_that_reads_nothing_as_a_whole(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(scripted)
    async with gateway.live("Hello", headers=STEPS) as live:
        with closing(await stopped(gateway, live.id)):
            upstream.send(delta(LARGE))
            await live.until("step.delta")
            await asyncio.sleep(0.2)
            assert 0 < max(gateway.unsent()) < 256 * 1024
            upstream.send(*ENDING)
            upstream.end()
            assert (await live.rest()).done


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads nothing is soon given up."""
    monkeypatch.setattr(stream_client, "_STALLED", 0.6)


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_reads_nothing_is_given_up_while_the_stream_is_silent(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(scripted, keep_alive_interval=0.1)
    async with gateway.live("Hello", headers=STEPS) as live:
        with closing(await stopped(gateway, live.id)):
            while not max(gateway.unsent()):
                upstream.send(delta("x" * 8_000))
                await live.until("step.delta")
            assert len(gateway.unsent()) == 2
            await alone(gateway, 1)
            upstream.send(*ENDING)
            upstream.end()
            assert (await live.rest()).done


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lost", [False, True])
async def test_a_client_that_reads_nothing_is_given_up_though_the_stream_has_ended(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway, lost: bool
) -> None:
    gateway = await start_gateway(scripted)
    async with gateway.live("Hello", headers=STEPS) as live:
        with closing(await stopped(gateway, live.id)):
            while not max(gateway.unsent()):
                upstream.send(delta("x" * 8_000))
                await live.until("step.delta")
            if not lost:
                upstream.send(*ENDING)
            upstream.end()
            assert (await live.rest()).done is not lost
            await alone(gateway, 0 if lost else 1)


async def test_a_client_that_reads_slowly_is_told_all(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(scripted)
    with closing(await created(gateway, "1.1", held=1 << 18)) as client:
        await received(client, until=b"step.start")
        upstream.send(delta(LARGE), *ENDING)
        upstream.end()
        got = b""
        while b"[DONE]" not in got:
            await asyncio.sleep(0.005)
            part = await asyncio.get_running_loop().sock_recv(client, 1 << 18)
            assert part
            got += part
        assert got.count(b"x") >= len(LARGE)


async def test_events_that_come_together_leave_together(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(scripted)
    with closing(await created(gateway, "1.1")) as client:
        await received(client, until=b'"evt_2"}\n\n\r\n')
        upstream.send(delta("one"), delta("two"), delta("three"))
        got = await received(client, until=b'"evt_5"}\n\n\r\n')
        size, _, chunk = got.partition(b"\r\n")
        assert chunk.count(b"event: step.delta\n") == 3
        assert int(size, 16) == len(chunk) - len(b"\r\n")
        upstream.send(*ENDING)
        upstream.end()
        await received(client, until=b"[DONE]")


@pytest.mark.parametrize("headers", [STEPS, {"api-revision": "2026-05-07"}, {}])
async def test_every_generation_is_told_all_that_comes_together(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway, headers: dict[str, str]
) -> None:
    gateway = await start_gateway(scripted)
    async with gateway.live("Hello", headers=headers) as live:
        words = [f"word {number} " for number in range(50)]
        upstream.send(*(delta(word) for word in words[:40]))
        upstream.send(*(delta(word) for word in words[40:]), *ENDING)
        upstream.end()
        told = await live.rest()
    assert told.done
    assert told.text == "".join(words)


async def test_a_client_that_is_slow_when_its_time_is_over_is_told_no_half_event_as_a_whole_one(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(scripted, router=RouterSettings(num_retries=0, stream_total_timeout=3.0))
    with closing(await created(gateway, "1.1")) as client:
        head = await received(client, until=b"step.start")
        upstream.send(delta(LARGE))
        await asyncio.sleep(3.5)
        got = head + await received(client)
        assert b"x" * 1000 in got
        assert b"deadline_exceeded" not in got
        assert not got.endswith(b"0\r\n\r\n")
        upstream.send(*ENDING)
        upstream.end()


@pytest.mark.parametrize("wish", ["", "Connection: keep-alive\r\n"])
async def test_without_chunks_a_stream_that_is_told_to_its_end_ends_in_peace(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway, wish: str
) -> None:
    gateway = await start_gateway(scripted)
    with closing(await created(gateway, "1.0", more=wish)) as client:
        upstream.send(delta("Hello"), *ENDING)
        upstream.end()
        got = await received(client)
        assert b"chunked" not in got.partition(b"\r\n\r\n")[0].lower()
        assert got.endswith(b"data: [DONE]\n\n")


async def test_without_chunks_a_stream_that_is_lost_says_so_and_is_reset(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(scripted)
    with closing(await created(gateway, "1.0")) as client:
        upstream.end()
        assert b"event: error" in await received(client, until=b"event: error")
        with pytest.raises(ConnectionResetError):
            await received(client)


async def test_without_chunks_a_stream_that_a_shutdown_ends_is_reset(
    scripted: Scripted, upstream: Upstream, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(scripted, drain_timeout=0.1)
    with closing(await created(gateway, "1.0")) as client:
        await received(client, until=b"step.start")
        await gateway.stop()
        with pytest.raises(ConnectionResetError):
            await received(client)
    upstream.end()
