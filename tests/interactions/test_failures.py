"""Creates that upstream refuses, spoils or never answers leave a record of that, on each database."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from aiohttp import web

from service.settings import Secret
from tests.support.gateway import MODEL, STEPS, Gateway
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json
from tests.support.upstreams import Emulated, answering, deployment, sse

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


SECRET = "AIza-very-secret-0123"
_TOLD: Json = {"code": "api_error", "message": f"The key {SECRET} is bad"}
_FAILED: Json = {"id": "v1_a", "status": "failed", "steps": []}
_CREATED: Json = {
    "event_type": "interaction.created",
    "interaction": {"id": "v1_a", "status": "in_progress"},
}


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ({**_FAILED, "errors": [_TOLD]}, None),
        ([{"event_type": "interaction.failed", "error": _TOLD}], None),
        ([{"event_type": "interaction.completed", "interaction": {**_FAILED, "errors": [_TOLD]}}], None),
        ([{"event_type": "error", "error": _TOLD}], None),
        ([], {**_FAILED, "errors": [_TOLD]}),
    ],
    ids=["unary", "failed", "completed", "error", "word"],
)
async def test_a_key_that_upstream_quotes_is_told_nobody_and_kept_nowhere(
    start_scripted: StartScripted, start_gateway: StartGateway, answer: Json | list[Json], word: Json | None
) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            missing = {"error": {"code": "not_found", "message": "No."}}
            return web.json_response(missing if word is None else word, status=404 if word is None else 200)
        if isinstance(answer, dict):
            return web.json_response(answer)
        return web.Response(body=sse(_CREATED, *answer), content_type="text/event-stream")

    upstream = await start_scripted(script)
    gateway = await start_gateway(deployments=(replace(deployment(upstream, MODEL), api_key=Secret(SECRET)),))
    if isinstance(answer, dict):
        reply = await gateway.ask("Hello")
        name, told = reply.id, reply.raw
    else:
        streamed = await gateway.stream("Hello", headers=STEPS)
        name, told = streamed.headers["x-interaction-id"], streamed.raw
    again = await gateway.events(name, headers=STEPS)
    row = await gateway.database.row(name)
    bodies = await gateway.database.bodies(name)
    everything = [told, again.raw, (await gateway.got(name)).raw, str(row).encode(), *bodies.values()]
    assert row["status"] == "failed"
    assert row["error_message"] == "The key [key] is bad"
    assert not [one for one in everything if SECRET.encode() in one]


@pytest.mark.parametrize(
    "end",
    [
        {"error": {}, "interaction": {"id": "v1_a", "status": "completed"}},
        {"interaction": {"id": "v1_a"}},
        {},
    ],
    ids=["an empty error", "no status", "nothing"],
)
async def test_an_end_that_says_little_is_a_success(
    start_scripted: StartScripted, start_gateway: StartGateway, end: Json
) -> None:
    body = sse(_CREATED, {"event_type": "interaction.completed", **end})
    gateway = await start_gateway(await start_scripted(answering(body, content_type="text/event-stream")))
    streamed = await gateway.stream("Hello", store=False)
    row = await gateway.database.row(streamed.id)
    stored = orjson.loads(await gateway.database.response(streamed.id) or b"")
    assert (row["status"], row["error_code"]) == ("completed", None)
    for told in (streamed.final, stored):
        assert (told["status"], told.get("errors")) == ("completed", None)
