"""Requests that reach no handler, and callers that a service without a key must not serve."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct

import orjson
import pytest

from tests.support.gateway import MODEL, STEPS, Gateway, eventually
from tests.support.upstreams import Emulated


async def exchange(gateway: Gateway, head: str) -> tuple[bytes, bytes]:
    """Send a head and read everything that comes back; gives the answer's head and body."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head.encode("utf-8", "surrogateescape"))
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    answer_head, _, body = answer.partition(b"\r\n\r\n")
    return answer_head, body


def assert_shaped(answer: bytes) -> None:
    """The head of an answer in Google's shape, as every one has it."""
    assert b"\r\ncontent-type: application/json" in answer.lower()
    assert re.search(rb"\r\nx-request-id: int_[a-z2-7]+\r\n", answer + b"\r\n", re.IGNORECASE)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            "GET /v1/interactions/x HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
            "repeats the header Host",
        ),
        ("BREW /v1/interactions HTTP/1.1\r\nHost: localhost\r\n\r\n", "not valid HTTP"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nx-goog-api-key: se\x01cret\r\n\r\n", "not valid HTTP"),
        (f"GET /{'x' * 9000} HTTP/1.1\r\nHost: localhost\r\n\r\n", "not valid HTTP"),
        # The parser would undo them, if packages for that were there.
        *(
            (
                f"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: {encoding}\r\n"
                "Content-Length: 2\r\n\r\n{}",
                "send the body plain, or as gzip or deflate",
            )
            for encoding in ("br", "zstd")
        ),
        (
            "POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nx-interactions-labels: team=M\udcfcller\r\n"
            'Connection: close\r\nContent-Length: 57\r\n\r\n{"model": "gemini/gemini-2.5-flash", "input": "Labelled"}',
            "The header 'x-interactions-labels' is not UTF-8",
        ),
        (
            "POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nx-emulator-fault: caf\udce9\r\n"
            'Connection: close\r\nContent-Length: 57\r\n\r\n{"model": "gemini/gemini-2.5-flash", "input": "Labelled"}',
            "no directive 'caf?'",
        ),
        (
            "POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nx-emulator-fault: caf\u00e9\r\n"
            'Connection: close\r\nContent-Length: 57\r\n\r\n{"model": "gemini/gemini-2.5-flash", "input": "Labelled"}',
            "no directive 'caf\u00e9'",
        ),
    ],
)
async def test_what_is_not_http_is_refused_in_googles_shape(
    gateway: Gateway, head: str, message: str
) -> None:
    answer, body = await exchange(gateway, head)
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert_shaped(answer)
    error = orjson.loads(body)["error"]
    assert error["code"] == "invalid_request"
    assert message in error["message"]
    assert b"cret" not in body


@pytest.mark.parametrize(
    "head",
    [
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_what_is_no_path_is_not_found_in_googles_shape(gateway: Gateway, head: str) -> None:
    answer, body = await exchange(gateway, head)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert_shaped(answer)
    error = orjson.loads(body)["error"]
    assert (error["code"], head.split()[0] in error["message"]) == ("not_found", True)


@pytest.mark.parametrize("path", ["/v1/interactions", "/health/live", "/nowhere"])
async def test_what_cannot_be_expected_is_refused_in_googles_shape(
    gateway: Gateway, upstream: Emulated, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: other\r\nConnection: close\r\n\r\n"
    answer, body = await exchange(gateway, head)
    assert answer.startswith(b"HTTP/1.1 417 ")
    assert_shaped(answer)
    assert "'100-continue'" in orjson.loads(body)["error"]["message"]
    assert not upstream.requests


async def test_a_body_is_asked_for_when_that_is_expected(gateway: Gateway) -> None:
    body = orjson.dumps({"model": MODEL, "input": "Hello"}).decode()
    head = (
        f"Host: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\nExpect: 100-Continue\r\n\r\n"
    )
    going_on, answer = await exchange(gateway, f"POST /v1/interactions HTTP/1.1\r\n{head}{body}")
    assert going_on == b"HTTP/1.1 100 Continue"
    assert answer.startswith(b"HTTP/1.1 200 ")
    # Before HTTP/1.1 nothing could be expected.
    answer, _ = await exchange(gateway, f"POST /v1/interactions HTTP/1.0\r\n{head}{body}")
    assert answer.startswith(b"HTTP/1.0 200 ")


async def test_a_body_that_would_be_too_large_is_not_asked_for(gateway: Gateway) -> None:
    head = "Host: localhost\r\nContent-Length: 999999999\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n"
    answer, body = await exchange(gateway, f"POST /v1/interactions HTTP/1.1\r\n{head}")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert orjson.loads(body)["error"]["code"] == "payload_too_large"


async def test_a_body_that_does_not_decode_is_400(gateway: Gateway) -> None:
    reply = await gateway.request(
        "POST", "/v1/interactions", headers={"content-encoding": "gzip"}, data=b'{"model": "m"}'
    )
    assert (reply.status, reply.error["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_an_upload_that_its_client_abandons_is_told_in_a_line_and_counted_as_the_clients(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, reset: bool, length: str
) -> None:
    caplog.set_level(logging.INFO)
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n"
    writer.write(head.encode() + b'40\r\n{"model": "m", "input": "Half')
    await writer.drain()
    await asyncio.sleep(0.05)
    if reset:
        lingering: socket.socket = writer.get_extra_info("socket")
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()

    async def is_counted() -> bool:
        figures = await gateway.request("GET", "/metrics")
        return b'interactions_requests_total{operation="create",status="400"} 1.0' in figures.raw

    await eventually(is_counted)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]
    assert told == []
    assert [text for text in caplog.messages if "left in the middle of its request's body" in text]
    assert await gateway.database.count() == 0


async def test_what_a_client_asks_for_that_sends_no_more_is_stored(
    gateway: Gateway, upstream: Emulated
) -> None:
    upstream.hold()
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = orjson.dumps({"model": MODEL, "input": "Hello"})
    writer.write(
        b"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    writer.write(body)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    upstream.release()

    async def is_stored() -> bool:
        return [row["status"] for row in await gateway.database.rows()] == ["completed"]

    await eventually(is_stored)


async def test_a_wrong_method_is_told_the_right_ones(gateway: Gateway) -> None:
    reply = await gateway.request("PATCH", "/v1/interactions/int_x")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, DELETE")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:4000"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
async def test_without_a_key_other_sites_are_refused(
    gateway: Gateway, upstream: Emulated, headers: dict[str, str]
) -> None:
    body = orjson.dumps({"model": MODEL, "input": "Hello"})
    reply = await gateway.request("POST", "/v1/interactions", headers=headers, data=body)
    assert (reply.status, reply.error["code"]) == (403, "permission_denied")
    assert not upstream.creates


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1"])
async def test_pages_of_this_machine_are_served(gateway: Gateway, origin: str) -> None:
    body = orjson.dumps({"model": MODEL, "input": "Hello"})
    reply = await gateway.request("POST", "/v1/interactions", headers={"origin": origin}, data=body)
    assert reply.status == 200


async def test_webhooks_are_for_background_runs(gateway: Gateway, upstream: Emulated) -> None:
    reply = await gateway.refused(400, webhook_config={"uris": ["https://example.com/hook"]})
    assert "webhook_config" in reply.error["message"]
    assert not upstream.creates


async def test_a_failed_stream_records_why(gateway: Gateway) -> None:
    streamed = await gateway.stream(wish="failed")
    row = await gateway.database.row(streamed.id)
    assert row["status"] == "failed"
    assert row["error_code"]
    assert row["error_message"]


async def test_flat_outputs_are_replayed_as_steps(gateway: Gateway) -> None:
    made = await gateway.ask(fault="flat_outputs")
    replayed = await gateway.events(made.id, headers=STEPS)
    assert "step.start" in replayed.types


@pytest.mark.parametrize("cursor", ["replay_3", "evt_3x", "evt_0", "evt_999", "v1_e3"])
async def test_a_cursor_that_is_no_event_of_the_stream_is_refused(gateway: Gateway, cursor: str) -> None:
    streamed = await gateway.stream(wish="event_ids")
    reply = await gateway.get(streamed.id, stream="true", last_event_id=cursor)
    assert reply.status == 400
    assert cursor in reply.error["message"]
