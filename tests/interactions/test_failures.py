"""Creates that upstream refuses, spoils or never answers leave a record of that, on each database."""

from __future__ import annotations

import pytest

from tests.support.gateway import MODEL, Gateway
from tests.support.gateways import StartGateway
from tests.support.upstreams import Emulated, deployment

FAULTS = {
    "status;code=429;retry_after=7;message=Too many": (429, "rate_limit_exceeded"),
    "status;code=403;shape=classic;message=No access": (403, "permission_denied"),
    "html;code=502": (502, "bad_gateway"),
    "broken_json": (502, "bad_gateway"),
    "reset_before": (502, "bad_gateway"),
    "reset_after": (502, "bad_gateway"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_every_failure_is_recorded_and_read_back(gateway: Gateway, stream: bool) -> None:
    for fault, (status, code) in FAULTS.items():
        reply = await gateway.refused(status, stream=stream, fault=fault)
        name = reply.headers["x-interaction-id"]
        row = await gateway.database.row(name)
        assert (row["status"], row["http_status"], row["error_code"]) == ("failed", status, code)
        assert row["error_message"] == reply.error["message"]
        assert await gateway.database.request(name) is not None
        read = await gateway.got(name)
        assert (read.body["status"], read.body["errors"]) == ("failed", [reply.error])
        told = (await gateway.events(name)).final
        assert (told["status"], told["errors"]) == ("failed", [reply.error])
    assert await gateway.database.count() == len(FAULTS)


async def test_an_error_text_that_a_database_could_not_take_is_kept(
    gateway: Gateway, upstream: Emulated
) -> None:
    upstream.fault("status;code=400;message=before\0after \U0001f600")
    reply = await gateway.refused(400)
    assert reply.error["message"] == "before\0after \U0001f600"
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert row["error_message"] == "before\ufffdafter \U0001f600"


async def test_an_endless_error_text_is_told_whole_and_kept_in_part(
    gateway: Gateway, upstream: Emulated
) -> None:
    message = "very " * 10_000 + "bad"
    upstream.fault(f"status;code=400;message={message}")
    reply = await gateway.refused(400)
    assert reply.error["message"] == message
    kept = (await gateway.database.row(reply.headers["x-interaction-id"]))["error_message"]
    assert message.startswith(kept)
    assert 1000 < len(kept) < len(message)


async def test_after_failures_all_goes_on(gateway: Gateway) -> None:
    for fault in FAULTS:
        assert (await gateway.create(fault=fault)).status >= 400
    assert (await gateway.ask()).body["status"] == "completed"
    statuses = [row["status"] for row in await gateway.database.rows()]
    assert statuses == ["failed"] * len(FAULTS) + ["completed"]


async def test_a_failure_is_one_of_the_model_that_was_asked(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(deployments=(deployment(upstream, "fast", MODEL),))
    for name in ("fast", MODEL, f"gemini/{MODEL}"):
        reply = await gateway.create("Hello", model=name, fault="status;code=400")
        assert reply.status == 400
        row = await gateway.database.row(reply.headers["x-interaction-id"])
        assert (row["model"], row["model_requested"]) == (MODEL, name)
