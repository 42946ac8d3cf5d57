"""A connection answers one request after the other, whatever is left of the one before, and beside all others."""

from __future__ import annotations

import asyncio

from tests.support.connections import connected
from tests.support.gateway import Gateway

WHOLE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNWANTED = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
CLOSING = WHOLE[:-2] + b"Connection: close\r\n\r\n"


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of one answer, whose body is taken."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    (length,) = (line.split()[1] for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(int(length))
    return int(head.split()[1])


async def test_a_body_that_nobody_wants_is_taken_and_the_next_request_answered(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(UNWANTED % 200_000 + bytes(50_000))
        assert await status_of(reader) == 404
        writer.write(bytes(150_000) + WHOLE)
        assert await status_of(reader) == 200


async def test_a_connection_is_closed_behind_the_answer_that_is_to_be_its_last(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(WHOLE + CLOSING)
        assert [await status_of(reader) for _ in range(2)] == [200, 200]
        assert await reader.read() == b""


async def test_many_requests_at_once_do_not_hold_up_others(gateway: Gateway) -> None:
    async with connected(gateway) as (many, sender), connected(gateway) as (one, other):
        sender.write(WHOLE * 2_000)
        other.write(WHOLE)
        answered = asyncio.create_task(status_of(one))
        for _ in range(1_000):
            assert await status_of(many) == 200
        assert answered.done()
        for _ in range(1_000):
            assert await status_of(many) == 200
