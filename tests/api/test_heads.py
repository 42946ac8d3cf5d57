"""Heads of requests that are not whole: waited for a while, then refused; a connection that is idle may stay so."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import orjson
import pytest
from aiohttp import web

from service.api import connection
from tests.support.connections import connected
from tests.support.gateway import MODEL, Gateway
from tests.support.gateways import StartGateway, StartScripted
from tests.support.upstreams import deployment

#: Seconds that a head may take.
SOON = 1.0
WHOLE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service waits for heads for a short time."""
    monkeypatch.setattr(connection, "_HEAD_SECONDS", SOON)


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (
        line.split()[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    assert b"\r\nx-request-id:" in head.lower()
    return int(head.split()[1]), await reader.readexactly(int(length))


async def assert_given_up(reader: asyncio.StreamReader) -> None:
    status, body = await answered(reader)
    assert (status, orjson.loads(body)["error"]["code"]) == (408, "deadline_exceeded")
    assert await reader.read() == b""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("served", [0, 1], ids=["the first", "the next"])
@pytest.mark.parametrize("begun", [WHOLE[:1], WHOLE[:-2], b"GET /x", b"get /health/live HTTP/1.1\r\nHo"])
async def test_a_head_that_does_not_become_whole_is_given_up(
    gateway: Gateway, begun: bytes, served: int
) -> None:
    async with connected(gateway) as (reader, writer):
        for _ in range(served):
            writer.write(WHOLE)
            assert (await answered(reader))[0] == 200
        writer.write(begun)
        if begun.startswith(b"get"):
            assert (await answered(reader))[0] in (400, 408)
        else:
            await assert_given_up(reader)


@pytest.mark.usefixtures("hasty")
async def test_bytes_that_keep_coming_prolong_nothing(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(WHOLE[:-2])
        closed = asyncio.ensure_future(reader.read())
        while not closed.done():
            writer.write(b"x-more: y\r\n")
            await asyncio.sleep(SOON / 10)
        # What was on its way when the service closed may have cost its answer.
        with suppress(ConnectionError):
            assert (await closed).startswith(b"HTTP/1.0 408 ")


@pytest.mark.parametrize("piece", [1, 7])
async def test_a_head_in_pieces_is_served_in_time(gateway: Gateway, piece: int) -> None:
    async with connected(gateway) as (reader, writer):
        for start in range(0, len(WHOLE), piece):
            writer.write(WHOLE[start : start + piece])
            await writer.drain()
            await asyncio.sleep(0.001)
        assert (await answered(reader))[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        WHOLE.replace(b"\r\n", b"\n"),
        WHOLE.replace(b"\r\n", b"\n", 1),
        WHOLE.replace(b"\r\n\r\n", b"\r\n\n"),
        WHOLE.replace(b"\r\n\r\n", b"\n\r\n"),
    ],
)
@pytest.mark.parametrize("cut", [0, 20], ids=["whole", "cut"])
async def test_bare_line_feeds_are_refused_at_once(gateway: Gateway, head: bytes, cut: int) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(head[:cut])
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(head[cut:])
        status, body = await answered(reader)
        assert (status, orjson.loads(body)["error"]["code"]) == (400, "invalid_request")
        assert await reader.read() == b""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("behind", [b"", b"\r\n"], ids=["nothing", "a blank line"])
async def test_an_idle_connection_stays(gateway: Gateway, behind: bytes) -> None:
    async with connected(gateway) as (reader, writer):
        await asyncio.sleep(2 * SOON)
        for begun in (0, 10, 0):
            writer.write(WHOLE[:begun])
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(WHOLE[begun:] + behind)
            assert (await answered(reader))[0] == 200
            await asyncio.sleep(2 * SOON)


@pytest.mark.usefixtures("hasty")
async def test_a_body_may_take_longer_than_a_head(gateway: Gateway) -> None:
    body = orjson.dumps({"model": MODEL, "input": "Hello"})
    head = b"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with connected(gateway) as (reader, writer):
        for piece in (head, body[:5], body[5:]):
            await writer.drain()
            writer.write(piece)
            await asyncio.sleep(1.5 * SOON)
        assert (await answered(reader))[0] == 200


@pytest.mark.usefixtures("hasty")
async def test_the_next_head_is_waited_for_while_an_answer_is_made(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3 * SOON)
        return web.json_response({"id": "v1_up", "model": MODEL, "status": "completed", "steps": []})

    gateway = await start_gateway(deployments=(deployment(await start_scripted(script), MODEL),))
    body = orjson.dumps({"model": MODEL, "input": "Hello"})
    head = b"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with connected(gateway) as (reader, writer):
        writer.write(head + body)
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(WHOLE[:20])
        assert (await answered(reader))[0] == 200
        await assert_given_up(reader)


def posted(text: str) -> tuple[bytes, bytes]:
    """The head and the body of a create."""
    body = orjson.dumps({"model": MODEL, "input": text})
    return b"POST /v1beta/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(
        body
    ), body


@pytest.mark.usefixtures("hasty")
async def test_a_body_is_no_head_though_its_own_came_behind_another_body(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        (head, body), (next_head, next_body) = posted("one"), posted("two HELLO WORLD")
        cut = next_body.index(b"HELLO")
        for part in (head + body[:5], body[5:] + next_head + next_body[:cut], next_body[cut:]):
            writer.write(part)
            await asyncio.sleep(0.05)
        assert [(await answered(reader))[0] for _ in range(2)] == [200, 200]
        # Nothing has begun behind it.
        await asyncio.sleep(2 * SOON)
        writer.write(WHOLE)
        assert (await answered(reader))[0] == 200


@pytest.mark.usefixtures("hasty")
async def test_a_head_that_begins_behind_a_request_is_given_up_as_well(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(WHOLE + WHOLE[:9])
        assert (await answered(reader))[0] == 200
        await assert_given_up(reader)


@pytest.mark.usefixtures("hasty")
async def test_a_body_behind_an_upgrade_that_is_declined_is_no_head(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        head, body = posted("one HELLO WORLD")
        cut = body.index(b"HELLO")
        wish = WHOLE[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        for part in (wish + head + body[:cut], body[cut:]):
            writer.write(part)
            await asyncio.sleep(0.05)
        assert [(await answered(reader))[0] for _ in range(2)] == [200, 200]


async def test_many_requests_at_once_may_each_repeat_their_user_agent(gateway: Gateway) -> None:
    twice = WHOLE[:-2] + b"User-Agent: a\r\nUser-Agent: b\r\n\r\n"
    async with connected(gateway) as (reader, writer):
        writer.write(b"\r\n" + twice * 1_500)
        for _ in range(1_500):
            assert (await answered(reader))[0] == 200


async def test_a_body_that_is_badly_encoded_is_refused_however_late_that_shows(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /v1beta/interactions HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n"
    for wish, body in (
        (b"Transfer-Encoding: chunked", b"zz\r\nfoo\r\n"),
        (b"Content-Encoding: gzip\r\nContent-Length: 1", b"x"),
    ):
        async with connected(gateway) as (reader, writer):
            writer.write(head % wish)
            await asyncio.sleep(0.05)
            writer.write(body)
            status, told = await answered(reader)
            assert (status, orjson.loads(told)["error"]["code"]) == (400, "invalid_request")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_long_head_that_comes_byte_by_byte_is_looked_at_once(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        head = WHOLE[:-2] + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 100) for n in range(60)) + b"\r\n"
        for place in range(0, len(head), 7):
            writer.write(head[place : place + 7])
            await asyncio.sleep(0)
        assert (await answered(reader))[0] == 200
