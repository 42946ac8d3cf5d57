from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.upstream.connection import (
    ConnectFailed,
    ConnectionBroken,
    Flow,
    Origin,
    ReadTimeout,
    TransportError,
)
from service.upstream.response import Response
from service.upstream.transport import Transport
from tests.support.pauses import rest
from tests.support.raw_server import Behaviour, Connection, RawServer, always, answer, raw_server

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def fetch(transport: Transport, server: RawServer) -> bytes:
    """One request and its whole answer."""
    response = await transport.request(server.origin, GET, b"", total_timeout=30)
    return await response.read()


async def collect(response: Response, into: list[bytes]) -> None:
    """Keep what comes, also of an answer that breaks."""
    while part := await response.chunk():
        into.append(part)


async def settled() -> None:
    """Let the loop notice what the other side has done to a connection."""
    await rest(0.1)


async def test_a_refused_connection_sent_nothing(transport: Transport, unused_tcp_port: int) -> None:
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1"):
        await transport.request(Origin("127.0.0.1", unused_tcp_port, False), GET, b"")


async def test_a_host_that_does_not_exist_sent_nothing(transport: Transport) -> None:
    with pytest.raises(ConnectFailed, match=r"nowhere\.invalid"):
        await transport.request(Origin("nowhere.invalid", 80, False), GET, b"")


async def test_a_connection_that_is_not_made_in_time_sent_nothing(transport: Transport) -> None:
    async def silent(connection: Connection) -> None:
        await asyncio.sleep(30)

    async with raw_server(silent) as server:
        # A server that never answers the TLS handshake.
        origin = Origin(server.origin.host, server.origin.port, True)
        with pytest.raises(ConnectFailed, match=r"within 0\.1 s"):
            await transport.request(origin, GET, b"", connect_timeout=0.1)


@pytest.mark.parametrize("limits", [{"total_timeout": 30.0}, {"read_timeout": 30.0}, {}])
async def test_the_first_byte_has_a_limit_of_its_own(transport: Transport, limits: dict[str, Any]) -> None:
    async def slow(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await asyncio.sleep(0.5)
        await connection.send(b"ok")
        await connection.request()
        await asyncio.sleep(30)

    async with raw_server(slow) as server:
        response = await transport.request(server.origin, GET, b"", first_byte_timeout=0.2, **limits)
        assert await response.read() == b"ok"
        with pytest.raises(ReadTimeout):
            await transport.request(server.origin, GET, b"", first_byte_timeout=0.2, **limits)


@pytest.mark.parametrize("hard", [True, False], ids=["reset", "closed"])
async def test_a_connection_that_ends_before_the_answer_is_broken(transport: Transport, hard: bool) -> None:
    async def end(connection: Connection) -> None:
        await connection.request()
        if hard:
            connection.reset()

    async with raw_server(end) as server:
        with pytest.raises(ConnectionBroken):
            await transport.request(server.origin, POST, b"{}")


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_connection_that_ends_in_the_middle_of_a_head_is_broken(
    transport: Transport, sent: bytes
) -> None:
    async def cut(connection: Connection) -> None:
        await connection.request()
        await connection.send(sent)

    async with raw_server(cut) as server:
        with pytest.raises(ConnectionBroken):
            await transport.request(server.origin, GET, b"")


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"50\r\nhell",
    ],
    ids=["length", "between chunks", "in a chunk"],
)
@pytest.mark.parametrize("hard", [True, False], ids=["reset", "closed"])
async def test_a_connection_that_ends_in_the_middle_of_a_body_is_broken(
    transport: Transport, sent: bytes, hard: bool
) -> None:
    async def cut(connection: Connection) -> None:
        await connection.request()
        await connection.send(sent)
        if hard:
            await settled()
            connection.reset()

    async with raw_server(cut) as server:
        response = await transport.request(server.origin, GET, b"")
        with pytest.raises(ConnectionBroken):
            await response.read()
        response = await transport.request(server.origin, GET, b"")
        got: list[bytes] = []
        with pytest.raises(ConnectionBroken):
            await collect(response, got)
        assert b"hello".startswith(b"".join(got))
        assert server.connections == 2


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02\x02\x16", b"HTTP/1.1 xyz\r\n\r\n"]
)
async def test_what_is_not_http_is_broken(transport: Transport, garbage: bytes) -> None:
    async def speak(connection: Connection) -> None:
        await connection.request()
        await connection.send(garbage)

    async with raw_server(speak) as server:
        with pytest.raises(ConnectionBroken):
            await transport.request(server.origin, GET, b"")


async def test_a_server_that_hangs_up_at_once_never_crashes_a_request(transport: Transport) -> None:
    async def hang_up(connection: Connection) -> None:
        connection.reset()

    async with raw_server(hang_up) as server:
        for _ in range(50):
            with pytest.raises(TransportError):
                await transport.request(server.origin, GET, b"")


async def silent(connection: Connection) -> None:
    """Read whatever comes and say nothing."""
    await connection.reader.read(-1)


async def test_the_total_time_limit_bounds_the_wait_for_the_head(transport: Transport) -> None:
    async with raw_server(silent) as server:
        with pytest.raises(ReadTimeout):
            await transport.request(server.origin, GET, b"", total_timeout=0.1)


async def drip(connection: Connection) -> None:
    """Send one byte after another for ever, never silent for long."""
    await connection.request()
    await connection.send(CHUNKED)
    while True:
        await connection.send(b"1\r\nx\r\n")
        await asyncio.sleep(0.01)


async def test_the_total_time_limit_bounds_the_whole_body(transport: Transport) -> None:
    async with raw_server(drip) as server:
        response = await transport.request(server.origin, GET, b"", total_timeout=2.0)
        with pytest.raises(ReadTimeout):
            await response.read()


async def test_the_silence_limit_bounds_the_wait_for_the_head(transport: Transport) -> None:
    async with raw_server(silent) as server:
        with pytest.raises(ReadTimeout):
            await transport.request(server.origin, GET, b"", read_timeout=0.1)


async def test_the_silence_limit_bounds_each_silence_of_a_stream(transport: Transport) -> None:
    async def pause(connection: Connection) -> None:
        await connection.request()
        await connection.send(CHUNKED)
        for _ in range(10):
            await connection.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.05)
        await connection.reader.read(-1)

    async with raw_server(pause) as server:
        response = await transport.request(server.origin, GET, b"", read_timeout=1.0)
        got: list[bytes] = []
        with pytest.raises(ReadTimeout):
            await collect(response, got)
        assert b"".join(got) == b"x" * 10


async def test_limits_of_one_request_are_not_those_of_the_next(transport: Transport) -> None:
    async def slower(connection: Connection) -> None:
        while (request := await connection.request()) is not None:
            if request.number > 1:
                await asyncio.sleep(2.2)
            await connection.send(answer(b"hello"))

    async with raw_server(slower) as server:
        response = await transport.request(server.origin, GET, b"", total_timeout=2.0, read_timeout=2.0)
        await response.read()
        await asyncio.sleep(2.2)
        response = await transport.request(server.origin, GET, b"")
        assert await response.read() == b"hello"
        assert server.connections == 1


async def test_after_a_time_limit_the_connection_is_not_used_again(transport: Transport) -> None:
    async def first_silent(connection: Connection) -> None:
        if connection.number == 1:
            await silent(connection)
        await always(answer(b"hello"))(connection)

    async with raw_server(first_silent) as server:
        with pytest.raises(ReadTimeout):
            await transport.request(server.origin, GET, b"", total_timeout=0.1)
        assert await fetch(transport, server) == b"hello"
        assert server.connections == 2


async def test_a_cancelled_request_drops_its_connection(transport: Transport) -> None:
    left = asyncio.Event()

    async def first_waits(connection: Connection) -> None:
        await connection.request()
        if connection.number == 1:
            assert await connection.request() is None
            left.set()
        else:
            await connection.send(answer(b"hello"))

    async with raw_server(first_waits) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await transport.request(server.origin, GET, b"")
        await asyncio.wait_for(left.wait(), 30)
        assert await fetch(transport, server) == b"hello"
        assert server.connections == 2


async def leave_early(response: Response) -> None:
    async with response:
        assert await response.chunk() == b"x"


async def cancelled_read(response: Response) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await response.read()


async def closed(response: Response) -> None:
    response.close()
    response.close()


@pytest.mark.parametrize("leave", [leave_early, cancelled_read, closed])
async def test_an_answer_given_up_drops_its_connection(transport: Transport, leave: object) -> None:
    left = asyncio.Event()

    async def unfinished(connection: Connection) -> None:
        await connection.request()
        await connection.send(CHUNKED, b"1\r\nx\r\n")
        assert await connection.request() is None
        left.set()

    async with raw_server(unfinished) as server:
        response = await transport.request(server.origin, GET, b"")
        assert callable(leave)
        await leave(response)
        await asyncio.wait_for(left.wait(), 30)


async def test_nothing_is_read_of_an_answer_that_was_given_up(transport: Transport) -> None:
    async with raw_server(always(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")) as server:
        response = await transport.request(server.origin, GET, b"", read_timeout=30)
        assert await response.chunk() == b"hello"
        response.close()
        with pytest.raises(ConnectionBroken):
            await response.chunk()


async def test_behind_the_end_of_an_answer_there_is_nothing(transport: Transport) -> None:
    async with raw_server(always(answer(b"hello"))) as server:
        response = await transport.request(server.origin, GET, b"", read_timeout=30)
        assert [await response.chunk() for _ in range(3)] == [b"hello", b"", b""]


@pytest.mark.parametrize(
    "sent",
    [
        answer(b"hello") + b"GARBAGE",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello\r\n\r\nxx",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\nxx",
    ],
    ids=["length", "close", "chunked"],
)
async def test_what_follows_a_whole_answer_does_not_spoil_it(transport: Transport, sent: bytes) -> None:
    async def too_much(connection: Connection) -> None:
        await connection.request()
        await connection.send(sent)

    async with raw_server(too_much) as server:
        for _ in range(2):
            assert await fetch(transport, server) == b"hello"
        assert server.connections == 2


TWO_AND_GARBAGE = b"3\r\none\r\n3\r\ntwo\r\nGARBAGE\r\n"
arrivals = pytest.mark.parametrize(
    "sent", [(CHUNKED, TWO_AND_GARBAGE), (CHUNKED + TWO_AND_GARBAGE,)], ids=["behind the head", "at once"]
)


def once(*parts: bytes) -> Behaviour:
    """Answer one request with these parts, each of which arrives by itself."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        for part in parts:
            await connection.send(part)
            await settled()

    return behave


@arrivals
async def test_what_is_not_http_does_not_spoil_the_pieces_before_it(
    transport: Transport, sent: tuple[bytes, ...]
) -> None:
    async with raw_server(once(*sent)) as server:
        for last in (Flow.ENOUGH, Flow.HOLD):
            response = await transport.request(server.origin, GET, b"", read_timeout=30)
            wishes = {b"onetwo": last}
            assert await response.pump(wishes.__getitem__) is last
            with pytest.raises(ConnectionBroken):
                await response.pump(lambda piece: Flow.MORE)


@arrivals
async def test_pieces_that_nobody_has_taken_outlive_the_connection(
    transport: Transport, sent: tuple[bytes, ...]
) -> None:
    got: list[bytes] = []

    def hold(piece: bytes) -> Flow:
        got.append(piece)
        return Flow.HOLD

    async with raw_server(once(*sent)) as server:
        response = await transport.request(server.origin, GET, b"", read_timeout=30)
        assert await response.pump(hold) is Flow.HOLD
        assert got == [b"onetwo"]
        with pytest.raises(ConnectionBroken):
            await response.pump(hold)


async def test_a_switch_of_protocols_is_broken(transport: Transport) -> None:
    async def switch(connection: Connection) -> None:
        await connection.request()
        await connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        )

    async with raw_server(switch) as server:
        with pytest.raises(ConnectionBroken):
            await fetch(transport, server)
