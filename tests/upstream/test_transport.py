from __future__ import annotations

import asyncio

import pytest

from service.errors import ConfigurationError
from service.upstream.transport import Transport, request_head
from tests.support.pauses import rest
from tests.support.raw_server import Connection, RawServer, always, answer, raw_server, whole

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body)


async def fetch(transport: Transport, server: RawServer) -> bytes:
    """One request and its whole answer."""
    response = await transport.request(server.origin, GET, b"", total_timeout=30)
    return await response.read()


async def settled() -> None:
    """Let the loop notice what the other side has done to a connection."""
    await rest(0.1)


async def test_an_answer_has_its_status_headers_and_body(transport: Transport) -> None:
    async with raw_server(always(answer(b"hello", "418 I'm a teapot", "X-Colour: red"))) as server:
        response = await transport.request(server.origin, GET, b"", total_timeout=30)
        assert (response.status, response.headers["x-colour"]) == (418, "red")
        assert await response.read() == b"hello"


async def test_what_is_sent_arrives_as_it_is(transport: Transport) -> None:
    async def echo(connection: Connection) -> None:
        request = await connection.request()
        assert request is not None
        assert (request.line, request.headers) == (
            "POST / HTTP/1.1",
            {"host": "test", "content-length": "5"},
        )
        await connection.send(answer(request.body))

    async with raw_server(echo) as server:
        response = await transport.request(server.origin, post(b"hello"), b"hello")
        assert await response.read() == b"hello"


async def test_a_connection_is_used_again(transport: Transport) -> None:
    async with raw_server(always(answer(b"hello"))) as server:
        for _ in range(20):
            assert await fetch(transport, server) == b"hello"
        assert server.connections == 1


async def test_requests_at_once_have_a_connection_each_and_share_them_later(transport: Transport) -> None:
    async with raw_server(always(answer(b"hello"))) as server:
        for _ in range(3):
            await asyncio.gather(*(fetch(transport, server) for _ in range(8)))
        assert server.connections == 8


async def test_an_answer_without_a_body_frees_its_connection(transport: Transport) -> None:
    async with raw_server(always(b"HTTP/1.1 204 No Content\r\n\r\n")) as server:
        assert [await fetch(transport, server) for _ in range(3)] == [b""] * 3
        assert server.connections == 1


async def test_an_idle_connection_that_the_server_closes_is_not_used_again(transport: Transport) -> None:
    async def once(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(b"hello"))

    async with raw_server(once) as server:
        for _ in range(3):
            assert await fetch(transport, server) == b"hello"
            await settled()
        assert server.connections == 3


async def test_a_connection_on_which_the_server_spoke_unasked_is_not_used_again(transport: Transport) -> None:
    async def impatient(connection: Connection) -> None:
        while await connection.request() is not None:
            await connection.send(answer(b"hello"))
            await asyncio.sleep(0.01)
            await connection.send(answer(b"too slow", "408 Request Timeout"))

    async with raw_server(impatient) as server:
        for _ in range(3):
            assert await fetch(transport, server) == b"hello"
            await settled()
        assert server.connections == 3


async def test_more_than_was_announced_spoils_the_connection_only(transport: Transport) -> None:
    async with raw_server(always(answer(b"hello") + b"HTTP/1.1 200 OK\r\n\r\nsmuggled")) as server:
        assert await fetch(transport, server) == b"hello"
        assert await fetch(transport, server) == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"], ids=["close", "1.0"]
)
async def test_a_connection_that_is_to_be_closed_is_not_used_again(transport: Transport, head: bytes) -> None:
    async with raw_server(always(head + b"Content-Length: 5\r\n\r\nhello")) as server:
        for _ in range(2):
            assert await fetch(transport, server) == b"hello"
        assert server.connections == 2


async def test_a_body_that_ends_with_the_connection_is_whole(transport: Transport) -> None:
    async def until_closed(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"hello ", b"world")

    async with raw_server(until_closed) as server:
        assert await fetch(transport, server) == b"hello world"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_chunked_body_is_put_together(transport: Transport) -> None:
    async with raw_server(always(CHUNKED, b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\n\r\n")) as server:
        for _ in range(3):
            assert await fetch(transport, server) == b"hello world"
        assert server.connections == 1


async def test_chunks_are_read_as_they_come(transport: Transport) -> None:
    read = asyncio.Event()

    async def one_by_one(connection: Connection) -> None:
        while await connection.request() is not None:
            await connection.send(CHUNKED)
            for part in (b"one", b"two", b"three"):
                await connection.send(b"%x\r\n%b\r\n" % (len(part), part))
                await read.wait()
                read.clear()
            await connection.send(b"0\r\n\r\n")

    async with raw_server(one_by_one) as server:
        for _ in range(2):
            response = await transport.request(server.origin, GET, b"", read_timeout=30)
            parts = []
            while part := await response.chunk():
                parts.append(part)
                read.set()
            assert parts == [b"one", b"two", b"three"]
        assert server.connections == 1


async def test_early_answers_are_passed_over(transport: Transport) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with raw_server(always(early, answer(b"hello"))) as server:
        for _ in range(2):
            assert await fetch(transport, server) == b"hello"
        assert server.connections == 1


async def test_an_early_answer_some_time_before_the_real_one_is_passed_over(transport: Transport) -> None:
    async def slowly(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.05)
        await connection.send(answer(b"hello"))

    async with raw_server(slowly) as server:
        assert await fetch(transport, server) == b"hello"


async def test_large_bodies_travel_both_ways(transport: Transport) -> None:
    body = bytes(range(256)) * 4096 * 20

    async def echo(connection: Connection) -> None:
        while (request := await connection.request()) is not None:
            await connection.send(answer(request.body))

    async with raw_server(echo) as server:
        for _ in range(2):
            response = await transport.request(server.origin, post(body), body, total_timeout=60)
            assert await response.read() == body
        response = await transport.request(server.origin, post(body), body, read_timeout=60)
        assert await whole(response) == body
        assert server.connections == 1


async def test_closing_ends_idle_connections(transport: Transport) -> None:
    left = asyncio.Event()

    async def note(connection: Connection) -> None:
        await always(answer(b"hello"))(connection)
        left.set()

    async with raw_server(note) as server:
        await fetch(transport, server)
        await transport.close()
        await asyncio.wait_for(left.wait(), 30)


async def test_an_answer_read_after_closing_is_whole_and_its_connection_ends(transport: Transport) -> None:
    async with raw_server(always(answer(b"hello"))) as server:
        response = await transport.request(server.origin, GET, b"")
        await transport.close()
        assert await response.read() == b"hello"
        await fetch(transport, server)
        assert server.connections == 2


@pytest.mark.parametrize("evil", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
def test_no_header_or_target_ends_its_line_early(evil: str) -> None:
    with pytest.raises(ConfigurationError, match="line break"):
        request_head("GET", "/", {"x-goog-api-key": evil})
    with pytest.raises(ConfigurationError, match="line break"):
        request_head("GET", f"/{evil}", {})


def test_a_head_lacks_only_its_blank_line() -> None:
    head = request_head("GET", "/x", {"Host": "test", "X-Name": "Zoë \u2603"})
    assert head == b"GET /x HTTP/1.1\r\nHost: test\r\nX-Name: Zo\xeb ?\r\n"
