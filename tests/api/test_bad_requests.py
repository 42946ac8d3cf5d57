"""What is refused here, before upstream or the store hear of it: always in Google's error shape (contract 7)."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.support.gateway import MODEL, STEPS, Gateway
from tests.support.gateways import StartGateway, StartScripted
from tests.support.upstreams import Emulated, answering, deployment

LIMIT = 4096


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"model": "m", "input": "a"', "JSON"),
        (b"\xff\xfe", "JSON"),
        (b'{"model":"m","input":"\xff"}', "JSON"),
        (b'{"model":"m","input":"\\ud800"}', "JSON"),
        (b'{"model":"m","input":NaN}', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"model":"m","input":"x","x":' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper than 200 levels"),
        (b'{"model":"m","input":[' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"]}", "nested deeper than 200"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"null", "object"),
        (b"{}", "'model' or 'agent'"),
        (b'{"model":"m","agent":"a","input":"x"}', "'model' and 'agent'"),
        (b'{"model":null,"input":"x"}', "'model' or 'agent'"),
        (b'{"model":"","input":"x"}', "'model'"),
        (b'{"model":7,"input":"x"}', "'model'"),
        (b'{"agent":["a"],"input":"x"}', "'agent'"),
        (b'{"model":"m"}', "Missing input."),
        (b'{"model":"m","input":null}', "Missing input."),
        (b'{"model":"m","input":""}', "Request has empty input."),
        (b'{"model":"m","input":[]}', "Request has empty input."),
        (b'{"model":"m","input":7}', "'input'"),
        (b'{"model":"m","input":["text"]}', "'input[0]'"),
        (b'{"model":"m","input":"x","stream":"true"}', "'stream'"),
        (b'{"model":"m","input":"x","store":0}', "'store'"),
        (b'{"model":"m","input":"x","background":"yes"}', "'background'"),
        (b'{"model":"m","input":"x","background":true,"store":false}', "store=true is required"),
        (b'{"model":"m","input":"x","previous_interaction_id":7}', "'previous_interaction_id'"),
        (b'{"model":"m","input":"x","previous_interaction_id":""}', "'previous_interaction_id'"),
        (b'{"model":"m","input":"x","previous_interaction_id":"a\\u0000b"}', "'previous_interaction_id'"),
        (b'{"model":"m\\u0000","input":"x"}', "'model'"),
        (b'{"model":"m","continuation_token":7}', "'continuation_token'"),
        (b'{"model":"m","input":[{"role":"system","content":"x"}]}', "'role'"),
        (b'{"model":"m","input":[{"role":"user"}]}', "'content'"),
        (
            b'{"model":"m","input":"x","background":true,"webhook_config":{"uris":["/x"]}}',
            "webhook_config.uris[0]",
        ),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else None,
)
async def test_a_request_that_makes_no_sense_is_400(
    gateway: Gateway, upstream: Emulated, body: bytes, named: str
) -> None:
    reply = await gateway.post(body)
    assert reply.status == 400, reply.raw
    assert reply.error["code"] == "invalid_request"
    assert named in reply.error["message"]
    assert "x-interaction-id" not in reply.headers
    assert upstream.requests == []
    assert await gateway.database.count() == 0


async def test_a_request_as_deep_as_may_be_is_taken_and_read_again(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    told = orjson.dumps({"id": "v1_up", "model": MODEL, "status": "completed", "steps": []})
    upstream = await start_scripted(answering(told))
    gateway = await start_gateway(deployments=(deployment(upstream, MODEL),))
    deep = orjson.loads(b"[" * 199 + b"]" * 199)
    made = await gateway.ask(unheard_of=deep)
    assert (await gateway.got(made.id, include_input="true")).body["input"] == "Hello"
    read = await gateway.request("GET", f"/api/interactions/{made.id}")
    assert read.body["request"]["unheard_of"] == deep


async def test_null_members_count_as_absent(gateway: Gateway, upstream: Emulated) -> None:
    body = {"model": MODEL, "agent": None, "input": "Hello", "store": None, "stream": None, "tools": None}
    assert (await gateway.post(body)).body["status"] == "completed"
    (sent,) = upstream.creates
    assert sent == body


@pytest.fixture
async def small(upstream: Emulated, start_gateway: StartGateway) -> Gateway:
    """A service that takes little."""
    return await start_gateway(upstream, max_body_bytes=LIMIT)


def of_size(size: int) -> bytes:
    """A valid create of exactly so many bytes."""
    body = orjson.dumps({"model": MODEL, "input": ""})
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


async def test_a_body_beyond_the_limit_is_413(small: Gateway, upstream: Emulated) -> None:
    for body in (of_size(LIMIT + 1), of_size(10 * LIMIT)):
        declared = await small.post(body)
        chunked = await small.request("POST", "/v1beta/interactions", data=in_pieces(body))
        for reply in (declared, chunked):
            assert (reply.status, reply.error["code"]) == (413, "payload_too_large")
            assert str(LIMIT) in reply.error["message"]
    assert upstream.requests == []
    assert await small.database.count() == 0


async def test_a_body_at_the_limit_is_taken(small: Gateway, upstream: Emulated) -> None:
    body = of_size(LIMIT)
    assert (await small.post(body)).status == 200
    assert (await small.request("POST", "/v1beta/interactions", data=in_pieces(body))).status == 200
    assert len(upstream.creates) == 2


async def test_a_declared_length_is_refused_before_the_body_comes(small: Gateway) -> None:
    address = small.url.removeprefix("http://")
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST /v1/interactions HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100000000\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_large_body_goes_through_by_default(gateway: Gateway, upstream: Emulated) -> None:
    text = "long " * (1024 * 1024)
    made = await gateway.ask(text)
    assert upstream.creates[0]["input"] == text
    assert orjson.loads(await gateway.database.request(made.id) or b"")["input"] == text


async def test_a_compressed_body_is_understood(gateway: Gateway) -> None:
    body = orjson.dumps({"model": MODEL, "input": "Squeezed"})
    headers = {"content-encoding": "gzip", **STEPS}
    reply = await gateway.request("POST", "/v1/interactions", headers=headers, data=gzip.compress(body))
    assert reply.status == 200
    assert '"Squeezed"' in reply.text
    assert await gateway.database.request(reply.id) == body


@pytest.mark.parametrize("encoding", ["deflate", "Deflate", "identity", "Identity", ""])
async def test_a_body_can_be_deflated_or_plain(gateway: Gateway, encoding: str) -> None:
    body = orjson.dumps({"model": MODEL, "input": "Squeezed"})
    sent = zlib.compress(body) if encoding.lower() == "deflate" else body
    reply = await gateway.request(
        "POST", "/v1/interactions", headers={"content-encoding": encoding}, data=sent
    )
    assert reply.status == 200
    assert await gateway.database.request(reply.id) == body


@pytest.mark.parametrize("encoding", ["foo", "x-gzip", "gzip, gzip", "identity, gzip", "gzip,"])
async def test_an_encoding_that_is_not_understood_is_named(
    gateway: Gateway, upstream: Emulated, encoding: str
) -> None:
    body = gzip.compress(orjson.dumps({"model": MODEL, "input": "Squeezed"}))
    for data in (body, in_pieces(body)):
        reply = await gateway.request(
            "POST", "/v1/interactions", headers={"content-encoding": encoding}, data=data
        )
        assert (reply.status, reply.error["code"]) == (400, "invalid_request")
        assert f"'Content-Encoding' is '{encoding}'" in reply.error["message"]
        assert reply.error["message"].endswith("send the body plain, or as gzip or deflate.")
    assert upstream.requests == []
    assert (await gateway.ask()).status == 200


async def test_a_compressed_body_is_bounded_by_what_it_holds(small: Gateway) -> None:
    bomb = gzip.compress(of_size(100 * LIMIT))
    assert len(bomb) < LIMIT
    reply = await small.request("POST", "/v1/interactions", headers={"content-encoding": "gzip"}, data=bomb)
    assert (reply.status, reply.error["code"]) == (413, "payload_too_large")


async def test_errors_are_json_for_streams_too(gateway: Gateway) -> None:
    reply = await gateway.create("", stream=True)
    assert (reply.status, reply.error["message"]) == (400, "Request has empty input.")


async def test_a_connection_serves_on_after_a_refusal(small: Gateway) -> None:
    for body in (b"{", of_size(LIMIT + 1), b"[]"):
        assert (await small.post(body)).status in (400, 413)
        assert (await small.ask()).status == 200
