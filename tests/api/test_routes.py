"""Paths, methods and the headers of every answer (contract 1.1)."""

from __future__ import annotations

import re
from dataclasses import replace

import orjson
import pytest

from service.wire import ids
from tests.support.gateway import MODEL, Gateway
from tests.support.gateways import StartGateway
from tests.support.upstreams import Emulated, deployment

BODY = orjson.dumps({"model": MODEL, "input": "Hello"})
PREFIXES = pytest.mark.parametrize("prefix", ["/v1", "/v1beta", ""])


@PREFIXES
async def test_every_version_serves_every_method(gateway: Gateway, upstream: Emulated, prefix: str) -> None:
    path = f"{prefix}/interactions"
    made = await gateway.request("POST", path, data=BODY)
    assert made.body["status"] == "completed"
    assert (await gateway.request("GET", f"{path}/{made.id}")).body == made.body
    assert (await gateway.request("DELETE", f"{path}/{made.id}")).raw == b"{}"
    # Upstream is always spoken to in the version of its deployment.
    assert {seen["path"].split("/")[1] for seen in upstream.requests} == {"v1beta"}


@PREFIXES
@pytest.mark.parametrize("spelling", ["/cancel", ":cancel"])
async def test_both_spellings_cancel(gateway: Gateway, prefix: str, spelling: str) -> None:
    made = await gateway.ask(background=True)
    reply = await gateway.request("POST", f"{prefix}/interactions/{made.id}{spelling}")
    assert (reply.status, reply.id, reply.body["status"]) == (200, made.id, "cancelled")


async def test_versions_may_be_mixed(gateway: Gateway) -> None:
    made = await gateway.request("POST", "/v1/interactions", data=BODY)
    for prefix in ("/v1", "/v1beta", ""):
        assert (await gateway.request("GET", f"{prefix}/interactions/{made.id}")).body == made.body


async def test_alt_sse_is_accepted_and_means_nothing(gateway: Gateway) -> None:
    plain = await gateway.request("POST", "/v1beta/interactions?alt=sse", data=BODY)
    assert plain.body["status"] == "completed"
    streaming = BODY[:-1] + b',"stream":true}'
    streamed = await gateway.request("POST", "/v1beta/interactions?alt=sse", data=streaming)
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.raw.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1beta/models"),
        ("POST", "/v2/interactions"),
        ("POST", "/v1/interactions/"),
        ("GET", "/v1/interactions/a/b"),
        ("POST", "/v1/interactions/a/pause"),
        ("POST", "/v1/interactions/a:pause"),
        ("OPTIONS", "/nowhere"),
        ("GET", "/v1/interactions/a%2Fb/c"),
    ],
)
async def test_an_unknown_path_is_404_in_googles_shape(gateway: Gateway, method: str, path: str) -> None:
    reply = await gateway.request(method, path)
    assert (reply.status, reply.error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/interactions"),
        ("PUT", "/v1/interactions"),
        ("DELETE", "/v1beta/interactions"),
        ("POST", "/v1/interactions/a"),
        ("PATCH", "/interactions/a"),
        ("GET", "/v1/interactions/a/cancel"),
        ("DELETE", "/v1/interactions/a:cancel"),
        ("POST", "/health/live"),
    ],
)
async def test_a_wrong_method_is_405_in_googles_shape(gateway: Gateway, method: str, path: str) -> None:
    reply = await gateway.request(method, path)
    assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")
    assert method in reply.error["message"]


@pytest.mark.parametrize(
    "path", ["/v1/interactions", "/v1/interactions/a", "/nowhere", "/v1/interactions/a/cancel"]
)
async def test_head_is_refused_without_a_body(gateway: Gateway, path: str) -> None:
    reply = await gateway.request("HEAD", path)
    assert reply.status == (404 if path == "/nowhere" else 405)
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.headers["x-request-id"]
    assert reply.raw == b""


async def test_every_answer_has_an_id_of_its_own(gateway: Gateway) -> None:
    made = await gateway.ask()
    replies = [
        made,
        await gateway.ask(),
        await gateway.post(b"{"),
        await gateway.get("int_unknown"),
        await gateway.request("GET", "/nowhere"),
        await gateway.request("PUT", "/v1/interactions"),
        await gateway.request("GET", "/health/live"),
        await gateway.create(fault="status;code=500"),
    ]
    names = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(names)) == len(names)
    assert all(ids.from_text(name) for name in names)


async def test_ids_travel_in_headers(gateway: Gateway) -> None:
    made = await gateway.ask()
    streamed = await gateway.stream()
    assert made.headers["x-interaction-id"] == made.id
    assert streamed.headers["x-interaction-id"] == streamed.id
    for reply in (
        made,
        await gateway.got(made.id),
        await gateway.events(made.id),
        await gateway.delete(made.id),
    ):
        assert reply.headers["x-interaction-id"] == made.id
        assert reply.headers["x-upstream-interaction-id"].startswith("v1_")


async def test_upstreams_ids_are_in_no_body(gateway: Gateway) -> None:
    first = await gateway.ask("One")
    upstream_ids = [first.upstream_id]
    second = await gateway.ask("Two", previous_interaction_id=first.id)
    upstream_ids.append(second.upstream_id)
    running = await gateway.ask("Three", background=True)
    upstream_ids.append(running.upstream_id)
    streamed = await gateway.stream("Four", previous_interaction_id=second.id, wish="event_ids")
    read = await gateway.got(streamed.id)
    upstream_ids.append(read.upstream_id)
    raw = [
        first.raw,
        second.raw,
        running.raw,
        streamed.raw,
        read.raw,
        (await gateway.got(second.id, include_input="true")).raw,
        (await gateway.events(streamed.id)).raw,
        (await gateway.events(second.id, headers={"api-revision": "2026-05-07"})).raw,
        (await gateway.got(running.id)).raw,
        (await gateway.cancel(running.id)).raw,
        (await gateway.delete(second.id)).raw,
    ]
    for body in raw:
        assert not [name for name in upstream_ids if name.encode() in body]
        assert not re.search(rb"v1_[A-Za-z0-9_-]{10}", body)


async def test_every_event_of_a_stream_names_the_services_id(gateway: Gateway) -> None:
    streamed = await gateway.stream(wish="checkpoint")
    named = [event["interaction"]["id"] for event in streamed.events if "interaction" in event]
    named += [event["interaction_id"] for event in streamed.events if "interaction_id" in event]
    assert len(named) >= 4
    assert set(named) == {streamed.id}


async def test_made_up_answers_are_marked(
    gateway: Gateway, start_gateway: StartGateway, upstream: Emulated
) -> None:
    emulated = await start_gateway(emulator=True)
    made = await emulated.ask()
    for reply in (
        made,
        await emulated.stream(),
        await emulated.got(made.id),
        await emulated.get("int_unknown"),
        await emulated.request("GET", "/nowhere"),
        await emulated.request("GET", "/health/live"),
    ):
        assert reply.headers["x-upstream"] == "emulator"
    assert "x-upstream" not in (await gateway.ask()).headers


@pytest.mark.parametrize("configured", [False, True])
async def test_made_up_answers_stay_marked_and_are_no_part_of_what_is_asked_of_upstream(
    start_gateway: StartGateway, upstream: Emulated, configured: bool
) -> None:
    own = replace(deployment(upstream), id="flash", model_name="gemini-flash")
    deployments = (own,) if configured else ()
    asked = {"model": "gemini-flash"} if configured else {}
    emulated = await start_gateway(emulator=True, deployments=deployments)
    made = await emulated.ask("Once", **asked)
    await emulated.stop()
    gateway = await start_gateway(None if configured else upstream, deployments=deployments)
    for reply in (await gateway.got(made.id), await gateway.events(made.id)):
        assert reply.headers["x-upstream"] == "emulator"
    following = await gateway.ask("Again", previous_interaction_id=made.id, **asked)
    assert following.headers["x-interactions-history"] == "rebuilt"
    assert "x-upstream" not in following.headers


async def test_health(gateway: Gateway) -> None:
    assert (await gateway.request("GET", "/health/live")).body == {"status": "live"}
    assert (await gateway.request("GET", "/health/ready")).body == {"status": "ready"}


async def test_the_model_may_be_spelled_in_every_way(upstream: Emulated, gateway: Gateway) -> None:
    for spelling in (MODEL, f"gemini/{MODEL}", f"models/{MODEL}"):
        made = await gateway.ask(model=spelling)
        assert made.body["model"] == MODEL
        row = await gateway.database.row(made.id)
        assert (row["model_requested"], row["model"]) == (spelling, MODEL)
    assert {body["model"] for body in upstream.creates} == {MODEL}
