"""The key, in each of the places where clients put it; it stays out of every log (contract 1.3)."""

from __future__ import annotations

import logging
from contextlib import suppress
from urllib.parse import quote

import orjson
import pytest
from aiohttp import ClientPayloadError

from service.settings import Secret
from tests.support.gateway import MODEL, Gateway
from tests.support.gateways import StartGateway
from tests.support.upstreams import KEY as UPSTREAM_KEY
from tests.support.upstreams import Emulated

KEY = "a-long+random/value="
WRONG = "quite-another-value"
BODY = orjson.dumps({"model": MODEL, "input": "Hello"})
PATH = "/v1beta/interactions"


def ways(key: str) -> list[tuple[str, dict[str, str]]]:
    """Query and headers of each way to send a key."""
    return [
        ("", {"authorization": f"Bearer {key}"}),
        ("", {"x-goog-api-key": key}),
        ("", {"x-api-key": key}),
        (f"?key={quote(key, safe='')}", {}),
    ]


WAYS = pytest.mark.parametrize("way", range(4), ids=["bearer", "x-goog-api-key", "x-api-key", "query"])


@pytest.fixture
async def locked(upstream: Emulated, start_gateway: StartGateway) -> Gateway:
    """A service with a master key."""
    return await start_gateway(upstream, master_key=Secret(KEY))


@WAYS
async def test_the_right_key_opens_every_method(locked: Gateway, way: int) -> None:
    query, headers = ways(KEY)[way]
    made = await locked.request("POST", PATH + query, headers=headers, data=BODY)
    assert made.status == 200, made.raw
    running = await locked.request(
        "POST", PATH + query, headers=headers, data=BODY[:-1] + b',"background":true}'
    )
    for method, path in (
        ("GET", f"{PATH}/{made.id}"),
        ("POST", f"{PATH}/{running.id}/cancel"),
        ("DELETE", f"{PATH}/{made.id}"),
    ):
        assert (await locked.request(method, path + query, headers=headers)).status == 200


@WAYS
@pytest.mark.parametrize("key", [WRONG, KEY[:-1], KEY + "x", KEY.upper(), "", "\xe9"])
async def test_a_wrong_key_is_401(locked: Gateway, upstream: Emulated, way: int, key: str) -> None:
    query, headers = ways(key)[way]
    for method, path in (
        ("POST", PATH),
        ("GET", f"{PATH}/int_a"),
        ("POST", f"{PATH}/int_a/cancel"),
        ("POST", f"{PATH}/int_a:cancel"),
        ("DELETE", f"{PATH}/int_a"),
    ):
        reply = await locked.request(method, path + query, headers=headers, data=BODY)
        assert (reply.status, reply.error["code"]) == (401, "authentication")
        assert not key or key not in reply.error["message"]
    assert upstream.requests == []
    assert await locked.database.count() == 0


async def test_a_missing_key_is_401(locked: Gateway) -> None:
    reply = await locked.request("POST", PATH, data=BODY)
    assert (reply.status, reply.error["code"]) == (401, "authentication")
    # Nothing is told about a request before its sender is known.
    assert (await locked.request("POST", PATH, data=b"{")).status == 401
    assert (await locked.request("POST", PATH, headers={"authorization": KEY}, data=BODY)).status == 401
    assert (
        await locked.request("POST", PATH, headers={"authorization": f"Basic {KEY}"}, data=BODY)
    ).status == 401


async def test_one_right_key_among_several_is_enough(locked: Gateway) -> None:
    # SDKs send their placeholder beside the header that a caller adds (contract 1.3).
    headers = {"x-goog-api-key": WRONG, "authorization": f"bearer {KEY}"}
    assert (await locked.request("POST", PATH, headers=headers, data=BODY)).status == 200


async def test_health_needs_no_key(locked: Gateway) -> None:
    assert (await locked.request("GET", "/health/live")).status == 200
    assert (await locked.request("GET", "/health/ready")).status == 200


async def test_without_a_master_key_any_key_will_do(gateway: Gateway) -> None:
    for query, headers in ways(WRONG):
        assert (await gateway.request("POST", PATH + query, headers=headers, data=BODY)).status == 200


async def test_upstream_gets_its_own_key_and_none_of_the_callers(locked: Gateway, upstream: Emulated) -> None:
    for query, headers in ways(KEY):
        await locked.request("POST", PATH + query, headers=headers, data=BODY)
    assert {seen["key"] for seen in upstream.requests} == {UPSTREAM_KEY[-4:]}
    assert KEY not in str(upstream.requests)


async def test_upstreams_key_is_not_quoted(gateway: Gateway, upstream: Emulated) -> None:
    for stream in (False, True):
        upstream.fault(f"status;code=401;shape=classic;message=The key {UPSTREAM_KEY} is not valid")
        reply = await gateway.refused(401, stream=stream)
        assert UPSTREAM_KEY.encode() not in reply.raw
        assert "is not valid" in reply.error["message"]
        row = await gateway.database.row(reply.headers["x-interaction-id"])
        assert UPSTREAM_KEY not in str(row)


async def test_no_log_has_a_key(
    locked: Gateway, upstream: Emulated, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for key in (KEY, WRONG):
        for query, headers in ways(key):
            for body in (BODY, b"{", BODY[:-1] + b',"stream":true}', b"x" * 100):
                for fault in ("", "status;code=401;shape=classic", "cut;after=3", "reset_before"):
                    sent = {**headers, "x-emulator-fault": fault} if fault else headers
                    with suppress(ClientPayloadError):
                        await locked.request("POST", PATH + query, headers=sent, data=body)
            await locked.request("GET", f"/nowhere{query}", headers=headers)
            await locked.request("PUT", PATH + query, headers=headers)
            await locked.request("GET", f"{PATH}/int_a{query}", headers=headers)
    await upstream.close()
    for query, headers in ways(KEY):
        assert (await locked.request("POST", PATH + query, headers=headers, data=BODY)).status == 503
    told = [record for record in caplog.records if record.name.startswith("service")]
    assert told
    for record in told:
        line = f"{record.getMessage()} {record.exc_text or ''} {vars(record)}"
        for key in (KEY, quote(KEY, safe=""), WRONG, UPSTREAM_KEY):
            assert key not in line
