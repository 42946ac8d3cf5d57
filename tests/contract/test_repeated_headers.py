"""Repeated headers, byte by byte: python clients 1.55-2.8 send two User-Agent headers (contract 9.3.1).

Those are tolerated. Whatever decides where a request ends or where it goes stays strict: a proxy in front
that reads a repeated Host, Content-Length or Transfer-Encoding otherwise than this service does could be made
to smuggle requests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.contract.official import API_KEY
from tests.contract.reading import MODEL, quoted

AGENTS = (
    "User-Agent: GeminiNextGenAPIClient/Python 2.8.0",
    "user-agent: google-genai-sdk/2.8.0 gl-python/3.11.7",
)
#: Long enough for a segment to arrive by itself on the loopback interface.
PAUSE = 0.02
PATIENCE = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    headers: list[str]
    body: bytes

    def json(self) -> Any:
        """The body, which is JSON on every path."""
        return json.loads(self.body)


class Connection:
    """A connection that sends exactly the bytes it is given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *segments: bytes) -> None:
        """Send each of `segments` as a TCP segment of its own."""
        for segment in segments:
            self._writer.write(segment)
            await self._writer.drain()
            if len(segments) > 1:
                await asyncio.sleep(PAUSE)

    async def answer(self) -> Answer:
        """The next response on this connection."""
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *headers = head.strip().split("\r\n")
            named = [header.partition(":") for header in headers]
            lengths = [int(value) for name, _, value in named if name.lower() == "content-length"]
            assert len(lengths) == 1, head
            body = await self._reader.readexactly(lengths[0])
        return Answer(int(first.split()[1]), headers, body)

    async def closed(self) -> bool:
        """Whether the service sends nothing more and closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return not await self._reader.read(1)
            except ConnectionError:
                return True


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    """A connection to the service at `url`."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def request(*headers: str, text: str = "Hello.", length: int | None = None) -> bytes:
    """A create with `headers` in front of those that are needed."""
    body = json.dumps({"model": MODEL, "input": text}).encode()
    lines = [
        "POST /v1beta/interactions HTTP/1.1",
        *headers,
        "Host: service.test",
        f"x-goog-api-key: {API_KEY}",
        "content-type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def split_at(data: bytes, *marks: bytes) -> list[bytes]:
    """`data` cut in front of every one of `marks`, each searched for behind the one before."""
    cuts = [0]
    for mark in marks:
        cuts.append(data.index(mark, cuts[-1] + 1))
    return [data[start:end] for start, end in zip(cuts, [*cuts[1:], len(data)], strict=True)]


async def test_two_user_agents_are_served(service_url: str) -> None:
    async with connect(service_url) as connection:
        await connection.send(request(*AGENTS, text="Two names."))
        answer = await connection.answer()
    assert answer.status == 200
    assert "Two names." in answer.json()["steps"][-1]["content"][0]["text"]


@pytest.mark.parametrize(
    "headers",
    [
        AGENTS,
        (AGENTS[0], "X-Between: them", AGENTS[1]),
        (AGENTS[0], AGENTS[0]),
        (*AGENTS, "USER-AGENT: a third one"),
        ("User-Agent:", "User-Agent:"),
    ],
    ids=["adjacent", "apart", "equal", "three", "empty"],
)
async def test_user_agents_may_repeat_in_any_way(service_url: str, headers: tuple[str, ...]) -> None:
    async with connect(service_url) as connection:
        await connection.send(request(*headers))
        assert (await connection.answer()).status == 200


@pytest.mark.parametrize(
    "marks",
    [
        (b"user-agent:",),
        (b"ser-agent:",),
        (b"\r\nuser-agent:",),
        (b"\nuser-agent:",),
        (b"er-Agent:", b"er-agent:"),
        (b"\r\n\r\n",),
        (b"\n\r\n",),
        (b"\r\n{",),
        (b"{",),
        (
            b"OST",
            b"HTTP/1.1",
            b"User-Agent",
            b": Gem",
            b"user-agent",
            b": google",
            b"Host",
            b"Length",
            b"{",
            b"}",
        ),
    ],
    ids=lambda marks: repr(b"|".join(marks))[2:-1],
)
async def test_a_head_may_arrive_in_pieces(service_url: str, marks: tuple[bytes, ...]) -> None:
    async with connect(service_url) as connection:
        await connection.send(*split_at(request(*AGENTS, text="In pieces."), *marks))
        answer = await connection.answer()
    assert answer.status == 200
    assert "In pieces." in answer.json()["steps"][-1]["content"][0]["text"]


async def test_a_connection_serves_many_such_requests(service_url: str) -> None:
    async with connect(service_url) as connection:
        for turn in range(3):
            await connection.send(request(*AGENTS, text=f"Turn {turn}."))
            answer = await connection.answer()
            assert answer.status == 200
            assert f"Turn {turn}." in answer.json()["steps"][-1]["content"][0]["text"]


async def test_such_requests_may_be_pipelined(service_url: str) -> None:
    async with connect(service_url) as connection:
        await connection.send(b"".join(request(*AGENTS, text=f"Turn {turn}.") for turn in range(3)))
        answers = [await connection.answer() for _ in range(3)]
    texts = [answer.json()["steps"][-1]["content"][0]["text"] for answer in answers]
    assert all(f"Turn {turn}." in text for turn, text in enumerate(texts))


async def test_a_body_that_looks_like_headers_is_left_alone(service_url: str) -> None:
    text = "User-Agent: a. user-agent: b. Host: c."
    async with connect(service_url) as connection:
        await connection.send(*split_at(request(*AGENTS, text=text), b"User-Agent: a", b"user-agent: b"))
        answer = await connection.answer()
    assert answer.status == 200
    assert quoted(answer.json()["steps"][-1]["content"][0]["text"], text)


@pytest.mark.parametrize("agents", [(), AGENTS], ids=["plain", "two-agents"])
@pytest.mark.parametrize(
    "header",
    [
        "Host: other.test",
        "host: service.test",
        "Content-Length: 5",
        "content-length: {length}",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\ntransfer-encoding: chunked",
    ],
)
async def test_headers_that_matter_for_safety_may_not_repeat(
    service_url: str, agents: tuple[str, ...], header: str
) -> None:
    length = len(json.dumps({"model": MODEL, "input": "Hello."}))
    async with connect(service_url) as connection:
        await connection.send(request(*agents, header.format(length=length)))
        answer = await connection.answer()
        assert answer.status == 400
        assert await connection.closed()


async def test_nothing_behind_a_refused_head_is_served(service_url: str) -> None:
    smuggled = request(text="Smuggled.")
    async with connect(service_url) as connection:
        await connection.send(request(*AGENTS, "Content-Length: 0") + smuggled)
        assert (await connection.answer()).status == 400
        assert await connection.closed()


async def test_a_header_name_that_only_begins_alike_is_another_header(service_url: str) -> None:
    async with connect(service_url) as connection:
        await connection.send(request(*AGENTS, "User-Agent-Extra: x", "Host-Extra: y"))
        assert (await connection.answer()).status == 200


async def test_a_space_in_a_header_name_is_refused(service_url: str) -> None:
    async with connect(service_url) as connection:
        await connection.send(request("User-Agent : sneaky", *AGENTS))
        assert (await connection.answer()).status == 400
