from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from service.errors import BadGateway, DeadlineExceeded, ServiceUnavailable, UpstreamError
from service.settings import DeploymentSettings, Secret
from service.upstream.client import GeminiClient, Late, Reply, as_service_error
from service.upstream.connection import TransportError
from service.upstream.deployments import Deployment, build
from service.upstream.response import Response
from service.upstream.transport import Transport
from tests.support.raw_server import Behaviour, Connection, Request, always, answer, raw_server, whole

BODY = b'{"model":"m","input":"hello"}'
EMULATOR_HEADER = b"x-emulator-fault: 429\r\n"
JSON = "Content-Type: application/json"
OK = answer(b'{"id":"v1_x"}', "200 OK", JSON)
LIMIT = answer(
    b'{"error":{"code":"rate_limit_exceeded","message":"Slow down."}}',
    "429 Too Many Requests",
    "Retry-After: 7",
)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def client(transport: Transport) -> GeminiClient:
    return GeminiClient(transport, request_timeout=30, stream_timeout=60.0)


def at(url: str, **members: Any) -> Deployment:
    settings = DeploymentSettings(
        id="d", model_name="m", model="m", api_key=Secret("s3cret"), api_base=url, **members
    )
    return build(settings, "tests/1")


def noting(seen: list[Request], *parts: bytes) -> Behaviour:
    """Answer always, and keep what was asked."""

    async def behave(connection: Connection) -> None:
        while (request := await connection.request()) is not None:
            seen.append(request)
            await connection.send(*parts)

    return behave


async def test_a_create_sends_body_key_and_revision(client: GeminiClient) -> None:
    seen: list[Request] = []
    async with raw_server(noting(seen, OK)) as server:
        reply = await client.create(at(server.url), BODY)
    assert (reply.status, reply.raw, reply.body) == (200, b'{"id":"v1_x"}', {"id": "v1_x"})
    (request,) = seen
    assert (request.line, request.body) == ("POST /v1beta/interactions HTTP/1.1", BODY)
    assert request.headers["x-goog-api-key"] == "s3cret"
    assert request.headers["api-revision"] == "2026-05-20"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == server.url.removeprefix("http://")


async def test_the_small_calls_name_the_interaction(client: GeminiClient) -> None:
    seen: list[Request] = []
    async with raw_server(noting(seen, OK)) as server:
        deployment = at(server.url)
        await client.get(deployment, "v1_x")
        await client.cancel(deployment, "v1_x")
        await client.delete(deployment, "v1_x")
        assert server.connections == 1
    assert [request.line for request in seen] == [
        "GET /v1beta/interactions/v1_x HTTP/1.1",
        "POST /v1beta/interactions/v1_x/cancel HTTP/1.1",
        "DELETE /v1beta/interactions/v1_x HTTP/1.1",
    ]
    assert {request.headers["x-goog-api-key"] for request in seen} == {"s3cret"}


@pytest.mark.parametrize("empty", [answer(b"{}"), b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_a_delete_has_no_use_for_an_answer(client: GeminiClient, empty: bytes) -> None:
    async with raw_server(always(empty)) as server:
        await client.delete(at(server.url), "v1_x")


@pytest.mark.parametrize("local", [True, False])
async def test_headers_for_the_emulator_stay_on_this_machine(client: GeminiClient, local: bool) -> None:
    seen: list[Request] = []
    async with raw_server(noting(seen, OK)) as server:
        deployment = replace(at(server.url), local=local)
        await client.create(deployment, BODY, EMULATOR_HEADER)
        await client.create_stream(deployment, BODY, EMULATOR_HEADER)
        await client.get(deployment, "v1_x", headers=EMULATOR_HEADER)
        await client.cancel(deployment, "v1_x", headers=EMULATOR_HEADER)
    assert len(seen) == 4
    assert {"x-emulator-fault" in request.headers for request in seen} == {local}


EVENTS = b"data: {}\n\n"


ANY_NAME = pytest.mark.parametrize(
    "named",
    [
        (),
        ("Content-Type: text/plain",),
        ("Content-Type: text/json",),
        ("Content-Type: Application/JSON; charset=UTF-8",),
    ],
)


@ANY_NAME
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf\n", b": hello\n\nevent: x\nid: 1\n"])
async def test_a_stream_needs_no_name(client: GeminiClient, named: tuple[str, ...], before: bytes) -> None:
    sent = before + EVENTS
    async with raw_server(always(answer(sent, "200 OK", *named))) as server:
        opened = await client.create_stream(at(server.url), BODY)
        assert isinstance(opened, Response)
        assert await whole(opened) == sent


@ANY_NAME
async def test_a_whole_answer_needs_none_though_a_stream_was_asked_for(
    client: GeminiClient, named: tuple[str, ...]
) -> None:
    async with raw_server(always(answer(b' \n{"id":"v1_x"}', "200 OK", *named))) as server:
        opened = await client.create_stream(at(server.url), BODY)
    assert isinstance(opened, Reply)
    assert opened.body == {"id": "v1_x"}


@ANY_NAME
@pytest.mark.parametrize("body", [b"<html>Sorry</html>", b"Sorry", b"", b" ", b"\xef\xbb\xbf"])
async def test_a_page_is_no_stream(client: GeminiClient, named: tuple[str, ...], body: bytes) -> None:
    async with raw_server(always(answer(body, "200 OK", *named))) as server:
        with pytest.raises(BadGateway, match="cannot be read"):
            await client.create_stream(at(server.url), BODY)


async def test_how_a_body_begins_is_waited_for(client: GeminiClient) -> None:
    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n")
        for piece in (b"\xef", b"\xbb\xbf", b"\n", b"dat", b"a: {}\n\n"):
            await asyncio.sleep(0.02)
            await connection.send(piece)

    async with raw_server(behave) as server:
        opened = await client.create_stream(at(server.url), BODY)
        assert isinstance(opened, Response)
        assert await whole(opened) == b"\xef\xbb\xbf\n" + EVENTS


async def test_a_refusal_is_upstreams_own(client: GeminiClient) -> None:
    async with raw_server(always(LIMIT)) as server:
        deployment = at(server.url)
        for call in (
            client.create(deployment, BODY),
            client.create_stream(deployment, BODY),
            client.get(deployment, "v1_x"),
            client.cancel(deployment, "v1_x"),
            client.delete(deployment, "v1_x"),
        ):
            with pytest.raises(UpstreamError) as caught:
                await call
            error = caught.value
            assert (error.status, error.code, error.message) == (429, "rate_limit_exceeded", "Slow down.")
            assert error.retry_after == 7
        assert server.connections == 1


async def test_a_refusal_that_is_not_json_keeps_its_status(client: GeminiClient) -> None:
    async with raw_server(always(answer(b"<html>Bad Gateway</html>", "502 Bad Gateway"))) as server:
        for call in (client.create(at(server.url), BODY), client.create_stream(at(server.url), BODY)):
            with pytest.raises(UpstreamError, match="non-JSON body: <html>Bad Gateway") as caught:
                await call
            assert (caught.value.status, caught.value.code) == (502, "bad_gateway")


async def test_a_redirect_is_not_followed(client: GeminiClient) -> None:
    moved = answer(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:1/elsewhere")
    async with raw_server(always(moved)) as server:
        for call in (client.create(at(server.url), BODY), client.create_stream(at(server.url), BODY)):
            with pytest.raises(BadGateway, match="api_base"):
                await call


@pytest.mark.parametrize("body", [b"", b"hello", b"[1]", b'"text"', b'{"id":"v1_x"', b"\xff"])
async def test_an_answer_that_is_no_object_is_a_bad_gateway(client: GeminiClient, body: bytes) -> None:
    async with raw_server(always(answer(body))) as server:
        with pytest.raises(BadGateway, match="may have run"):
            await client.create(at(server.url), BODY)


@pytest.mark.parametrize("body", [b"{}", b'{"error":{}}', b'{"candidates":[]}'])
async def test_an_object_that_says_nothing_of_an_interaction_is_a_bad_gateway(
    client: GeminiClient, body: bytes
) -> None:
    async with raw_server(always(answer(body))) as server:
        for call in (client.create(at(server.url), BODY), client.create_stream(at(server.url), BODY)):
            with pytest.raises(BadGateway, match="no interaction"):
                await call


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":"rate_limit_exceeded","message":"Out of quota."}}', "rate_limit_exceeded"),
        (
            b'[{"error":{"code":429,"message":"Out of quota.","status":"RESOURCE_EXHAUSTED"}}]',
            "rate_limit_exceeded",
        ),
        (b'{"error":"Out of quota."}', "api_error"),
    ],
)
async def test_an_error_in_place_of_an_answer_is_told_in_its_words(
    client: GeminiClient, body: bytes, code: str
) -> None:
    async with raw_server(always(answer(body))) as server:
        for call in (client.create(at(server.url), BODY), client.create_stream(at(server.url), BODY)):
            with pytest.raises(BadGateway) as raised:
                await call
            assert (raised.value.status, raised.value.code, raised.value.message) == (
                502,
                code,
                "Out of quota.",
            )


async def test_a_byte_order_mark_is_no_part_of_an_answer(client: GeminiClient) -> None:
    async with raw_server(always(answer(b'\xef\xbb\xbf{"id":"v1_x"}', "200 OK", JSON))) as server:
        for call in (client.create(at(server.url), BODY), client.create_stream(at(server.url), BODY)):
            assert await call == Reply(200, b'{"id":"v1_x"}', {"id": "v1_x"})


async def test_no_coding_is_asked_for(client: GeminiClient) -> None:
    seen: list[Request] = []
    async with raw_server(noting(seen, OK)) as server:
        await client.create(at(server.url), BODY)
        await client.get(at(server.url), "v1_x")
    assert [request.headers["accept-encoding"] for request in seen] == ["identity"] * 2


@pytest.mark.parametrize("text", [b"a\\ud800b", b"a\xffb"])
async def test_what_no_utf8_can_hold_is_replaced_in_an_answer(client: GeminiClient, text: bytes) -> None:
    sent = b'{"id": "v1_x", "text": "' + text + b'", "exact": 123456789012345678901234567890}'
    told = '{"id":"v1_x","text":"a\ufffdb","exact":123456789012345678901234567890}'.encode()
    async with raw_server(always(answer(sent, "200 OK", JSON))) as server:
        deployment = at(server.url)
        created = await client.create(deployment, BODY)
        opened = await client.create_stream(deployment, BODY)
        got = await client.get(deployment, "v1_x")
    assert isinstance(opened, Reply)
    for reply in (created, opened, got):
        assert reply.raw == told
        assert reply.body == {"id": "v1_x", "text": "a\ufffdb", "exact": 123456789012345678901234567890}


@pytest.mark.parametrize("text", [b"", b"\xff", b"\\ud800"])
async def test_an_answer_that_is_too_deep_cannot_be_read(client: GeminiClient, text: bytes) -> None:
    sent = b'{"text": "' + text + b'", "deep": ' + b"[" * 300 + b"]" * 300 + b"}"
    async with raw_server(always(answer(sent, "200 OK", JSON))) as server:
        with pytest.raises(BadGateway, match="cannot be read"):
            await client.create(at(server.url), BODY)


async def test_an_upstream_that_is_not_there_may_be_tried_again(
    client: GeminiClient, unused_tcp_port: int
) -> None:
    deployment = at(f"http://127.0.0.1:{unused_tcp_port}")
    for call in (client.create(deployment, BODY), client.create_stream(deployment, BODY)):
        with pytest.raises(ServiceUnavailable, match="cannot be reached") as caught:
            await call
        assert (caught.value.status, caught.value.retry_after) == (503, 1)


async def test_a_broken_connection_says_that_the_request_may_have_run(client: GeminiClient) -> None:
    async def hang_up(connection: Connection) -> None:
        await connection.request()
        connection.reset()

    async with raw_server(hang_up) as server:
        for call in (client.create(at(server.url), BODY), client.create_stream(at(server.url), BODY)):
            with pytest.raises(BadGateway, match="may have run"):
                await call
        assert server.connections == 2


async def silent(connection: Connection) -> None:
    await connection.reader.read(-1)


async def test_a_deployment_has_time_limits_of_its_own(client: GeminiClient) -> None:
    async with raw_server(silent) as server:
        deployment = at(server.url, timeout=0.1, stream_timeout=0.1)
        for call in (client.create(deployment, BODY), client.create_stream(deployment, BODY)):
            with pytest.raises(Late, match="did not answer in time") as caught:
                await call
            caught.value.give_up()


async def test_time_limits_are_the_clients_where_a_deployment_has_none(transport: Transport) -> None:
    client = GeminiClient(transport, request_timeout=0.1, stream_timeout=0.1)
    async with raw_server(silent) as server:
        for call in (client.create(at(server.url), BODY), client.create_stream(at(server.url), BODY)):
            with pytest.raises(Late) as caught:
                await call
            caught.value.give_up()


@pytest.mark.parametrize("limits", [{"timeout": 0.1}, {"first_byte_timeout": 0.1}])
async def test_a_late_answer_can_be_waited_for(client: GeminiClient, limits: dict[str, float]) -> None:
    async def hesitate(connection: Connection) -> None:
        for _ in range(2):
            await connection.request()
            await asyncio.sleep(0.4)
            await connection.send(OK[:40])
            await asyncio.sleep(0.2)
            await connection.send(OK[40:])

    async with raw_server(hesitate) as server:
        deployment = at(server.url, **limits)
        for _ in range(2):
            with pytest.raises(Late) as caught:
                await client.create(deployment, BODY)
            reply = await caught.value.answer(30)
            assert isinstance(reply, Reply)
            assert reply.body == {"id": "v1_x"}
        # The connection has served again.
        assert server.connections == 1


async def test_a_late_answer_is_waited_for_within_bounds(client: GeminiClient) -> None:
    async with raw_server(silent) as server:
        for wait in (True, False):
            with pytest.raises(Late) as caught:
                await client.create(at(server.url, timeout=0.1), BODY)
            late = caught.value
            waiting = asyncio.ensure_future(late.answer(0.1 if wait else 30))
            await asyncio.sleep(0)
            if not wait:
                late.give_up()
            with pytest.raises(DeadlineExceeded):
                await waiting


async def test_a_late_stream_has_no_bound_once_it_has_begun(client: GeminiClient) -> None:
    async def hesitate(connection: Connection) -> None:
        await connection.request()
        await asyncio.sleep(0.4)
        await connection.send(STREAM)
        await asyncio.sleep(0.6)
        await connection.send(b"9\r\ndata: x\n\n\r\n", b"0\r\n\r\n")

    async with raw_server(hesitate) as server:
        with pytest.raises(Late) as caught:
            await client.create_stream(at(server.url, first_byte_timeout=0.1), BODY)
        response = await caught.value.answer(0.5)
        assert isinstance(response, Response)
        assert await whole(response) == b"data: x\n\n"


async def test_a_stream_is_open_once_upstream_accepts_it(client: GeminiClient) -> None:
    async with raw_server(always(STREAM, b"9\r\ndata: x\n\n\r\n", b"0\r\n\r\n")) as server:
        for _ in range(2):
            response = await client.create_stream(at(server.url), BODY)
            assert isinstance(response, Response)
            assert await whole(response) == b"data: x\n\n"
        assert server.connections == 1


async def test_a_stream_that_is_taken_up_must_begin_soon(transport: Transport) -> None:
    client = GeminiClient(transport, request_timeout=30, stream_timeout=60.0, attach_timeout=0.1)
    async with raw_server(silent) as server:
        with pytest.raises(DeadlineExceeded):
            await client.attach(at(server.url), "v1_x", None)

    async def hesitate(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM)
        await asyncio.sleep(0.5)
        await connection.send(b"9\r\ndata: x\n\n\r\n", b"0\r\n\r\n")

    async with raw_server(hesitate) as server:
        response = await client.attach(at(server.url), "v1_x", None)
        assert isinstance(response, Response)
        assert await whole(response) == b"data: x\n\n"


async def test_an_upstream_that_ignores_the_wish_to_stream_gives_a_whole_answer(client: GeminiClient) -> None:
    async with raw_server(always(OK)) as server:
        for _ in range(2):
            reply = await client.create_stream(at(server.url), BODY)
            assert isinstance(reply, Reply)
            assert reply.body == {"id": "v1_x"}
        assert server.connections == 1


def test_an_unknown_trouble_counts_as_a_lost_answer() -> None:
    assert isinstance(as_service_error(TransportError("odd")), BadGateway)
