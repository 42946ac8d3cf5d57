"""Creates that upstream refuses, spoils or never answers: told as they are, and recorded as failed (contract 7)."""

from __future__ import annotations

import orjson
import pytest

from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.replies import Reply
from tests.support.upstreams import Emulated, answering, deployment, sse

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


async def assert_recorded(gateway: Gateway, reply: Reply) -> None:
    """The only row says what the client was told."""
    (row,) = await gateway.database.rows()
    assert row["status"] == "failed"
    assert row["http_status"] == reply.status
    assert row["error_code"] == reply.error["code"]
    assert row["error_message"] == reply.error["message"]
    assert row["completed_at"] is not None
    name = reply.headers["x-interaction-id"]
    assert await gateway.database.request(name) is not None
    read = await gateway.got(name)
    assert read.body["status"] == "failed"
    assert read.body["errors"] == [reply.error]
    (attempt,) = orjson.loads(row["attempts"])
    assert (attempt["status"], attempt["code"]) == (reply.status, reply.error["code"])


@BOTH
@pytest.mark.parametrize(
    ("code", "shape", "expected"),
    [
        (400, "steps", "invalid_request"),
        (400, "classic", "invalid_request"),
        (401, "classic", "authentication"),
        (402, "steps", "payment_required"),
        (403, "classic", "permission_denied"),
        (404, "steps", "not_found"),
        (409, "steps", "aborted"),
        (429, "steps", "rate_limit_exceeded"),
        (429, "classic", "rate_limit_exceeded"),
        (500, "steps", "api_error"),
        (503, "classic", "service_unavailable"),
        (504, "steps", "deadline_exceeded"),
    ],
)
async def test_upstreams_refusals_keep_status_code_and_message(
    gateway: Gateway, stream: bool, code: int, shape: str, expected: str
) -> None:
    fault = f"status;code={code};shape={shape};message=It was refused"
    reply = await gateway.refused(code, stream=stream, fault=fault)
    assert reply.error == {"code": expected, "message": "It was refused"}
    await assert_recorded(gateway, reply)


async def test_a_code_of_upstreams_own_is_kept(gateway: Gateway) -> None:
    reply = await gateway.refused(400, fault="status;code=400;error=prohibited_content;message=No")
    assert reply.error["code"] == "prohibited_content"
    await assert_recorded(gateway, reply)


@BOTH
@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        ("retry_after=7", "7"),
        ("retry_after=2.2", "3"),
        ("shape=classic;retry_delay=34s", "34"),
        ("shape=classic", None),
        ("shape=steps", None),
    ],
)
async def test_retry_after_travels(gateway: Gateway, stream: bool, wish: str, seconds: str | None) -> None:
    reply = await gateway.refused(429, stream=stream, fault=f"status;code=429;{wish}")
    assert reply.headers.get("retry-after") == seconds


@BOTH
async def test_what_upstream_refuses_for_its_content_is_upstreams_word(
    gateway: Gateway, stream: bool
) -> None:
    reply = await gateway.refused(400, stream=stream, made_up_member=1)
    assert reply.error["code"] == "parameter_unknown"
    assert "made_up_member" in reply.error["message"]
    await assert_recorded(gateway, reply)


@pytest.mark.parametrize("fault", ["html;code=502", "html;code=503", "html;code=500"])
async def test_a_page_instead_of_an_error_keeps_its_status(gateway: Gateway, fault: str) -> None:
    status = int(fault[-3:])
    reply = await gateway.refused(status, fault=fault)
    assert "non-JSON" in reply.error["message"]
    await assert_recorded(gateway, reply)


@BOTH
@pytest.mark.parametrize("fault", ["html;code=200", "broken_json", "empty"])
async def test_an_answer_that_cannot_be_read_is_502(gateway: Gateway, stream: bool, fault: str) -> None:
    reply = await gateway.refused(502, stream=stream, fault=fault)
    assert reply.error["code"] == "bad_gateway"
    await assert_recorded(gateway, reply)


@BOTH
@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'"text"'])
async def test_an_answer_that_is_no_object_is_502(
    start_scripted: StartScripted, start_gateway: StartGateway, stream: bool, body: bytes
) -> None:
    gateway = await start_gateway(await start_scripted(answering(body)))
    reply = await gateway.refused(502, stream=stream)
    assert reply.error["code"] == "bad_gateway"
    await assert_recorded(gateway, reply)


async def test_an_upstream_that_does_not_stream_is_answered_as_it_answers(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    body = {
        "id": "v1_plain",
        "status": "completed",
        "steps": [{"type": "model_output", "content": [{"type": "text", "text": "No stream"}]}],
        "usage": {"total_tokens": 3},
    }
    gateway = await start_gateway(await start_scripted(answering(orjson.dumps(body))))
    reply = await gateway.create(stream=True)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    assert (reply.text, reply.upstream_id) == ("No stream", "v1_plain")
    assert (await gateway.got(reply.id)).body["usage"] == {"total_tokens": 3}


@BOTH
@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
async def test_a_connection_that_breaks_is_502(
    gateway: Gateway, upstream: Emulated, stream: bool, fault: str
) -> None:
    reply = await gateway.refused(502, stream=stream, fault=fault)
    assert reply.error["code"] == "bad_gateway"
    await assert_recorded(gateway, reply)
    # It may have run: nobody sends a create twice on a suspicion.
    assert len(upstream.requests) == 1


async def test_a_connection_that_breaks_within_the_answer_is_502(gateway: Gateway) -> None:
    reply = await gateway.refused(502, fault="reset_headers")
    await assert_recorded(gateway, reply)


@BOTH
async def test_an_upstream_that_is_down_is_503(gateway: Gateway, upstream: Emulated, stream: bool) -> None:
    await upstream.close()
    reply = await gateway.refused(503, stream=stream)
    assert reply.error["code"] == "service_unavailable"
    assert int(reply.headers["retry-after"]) >= 1
    await assert_recorded(gateway, reply)


@BOTH
async def test_an_upstream_that_takes_too_long_is_504(
    start_emulator: StartEmulator, start_gateway: StartGateway, stream: bool
) -> None:
    upstream = await start_emulator(latency=20.0)
    entry = deployment(upstream, MODEL, timeout=0.2, stream_timeout=0.2, background_timeout=0.8)
    gateway = await start_gateway(deployments=(entry,))
    reply = await gateway.refused(504, stream=stream)
    assert reply.error["code"] == "deadline_exceeded"
    # It is waited for, as long as interactions have, and then has failed.
    read = await gateway.finished(reply.headers["x-interaction-id"])
    assert (read.body["status"], read.body["errors"][0]["code"]) == ("failed", "deadline_exceeded")
    (row,) = await gateway.database.rows()
    assert (row["http_status"], row["error_code"]) == (504, "deadline_exceeded")


async def test_an_answer_that_trickles_is_bounded_too(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(deployments=(deployment(upstream, MODEL, timeout=0.3),))
    reply = await gateway.refused(504, fault="trickle;bytes=64;seconds=0.1")
    read = await gateway.finished(reply.headers["x-interaction-id"])
    assert read.body["status"] == "completed"


async def test_a_failed_interaction_is_an_answer_with_its_errors(gateway: Gateway) -> None:
    made = await gateway.ask(wish="failed;code=api_error;message=The model has failed")
    assert made.body["status"] == "failed"
    row = await gateway.database.row(made.id)
    assert (row["status"], row["http_status"]) == ("failed", 200)
    assert (row["error_code"], row["error_message"]) == ("api_error", "The model has failed")


async def test_an_unknown_model_is_refused_before_anything_is_recorded(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(deployments=(deployment(upstream, "fast", MODEL),))
    reply = await gateway.refused(404, model="nowhere")
    assert reply.error["code"] == "model_not_found"
    assert "nowhere" in reply.error["message"]
    assert "fast" in reply.error["message"]
    assert await gateway.database.count() == 0
    assert upstream.requests == []


def deep(levels: int) -> bytes:
    """What upstream answers, so many levels deep."""
    arguments = b'{"a":' * (levels - 3) + b"1" + b"}" * (levels - 3)
    step = b'{"type":"function_call","id":"c","name":"f","arguments":%b}' % arguments
    return b'{"id":"v1_up","model":"m","status":"completed","steps":[%b]}' % step


@pytest.mark.parametrize("levels", [201, 300, 1_000, 1_024, 1_025, 100_000])
async def test_an_answer_nested_too_deeply_to_be_read_again_is_a_bad_gateway(
    start_scripted: StartScripted, start_gateway: StartGateway, levels: int
) -> None:
    upstream = await start_scripted(answering(deep(levels)))
    gateway = await start_gateway(deployments=(deployment(upstream, MODEL),))
    reply = await gateway.refused(502)
    assert reply.error["code"] == "bad_gateway"
    assert "a body that cannot be read" in reply.error["message"]
    await assert_recorded(gateway, reply)


@pytest.mark.parametrize("headers", [STEPS, LEGACY], ids=["steps", "legacy"])
async def test_an_answer_as_deep_as_may_be_is_read_again(
    start_scripted: StartScripted, start_gateway: StartGateway, headers: dict[str, str]
) -> None:
    upstream = await start_scripted(answering(deep(200)))
    gateway = await start_gateway(deployments=(deployment(upstream, MODEL),))
    made = await gateway.ask(headers=headers)
    read = await gateway.got(made.id, headers=headers, include_input="true")
    for body in (made.body, read.body):
        (call,) = (step for step in body.get("steps") or body["outputs"] if step["type"] == "function_call")
        assert orjson.dumps(call["arguments"]).count(b"{") == 197
    assert (await gateway.events(made.id, headers=headers)).final["status"] == "completed"
    told = await gateway.request("GET", f"/api/interactions/{made.id}")
    assert told.body["response"]["steps"]
    exported = await gateway.request("GET", "/api/export?format=jsonl")
    assert made.id.encode() in exported.raw


async def test_an_event_nested_too_deeply_is_not_told(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    created = {"event_type": "interaction.created", "interaction": {"id": "v1_up", "status": "in_progress"}}
    final = b'data: {"event_type":"interaction.completed","interaction":%b}\n\n' % deep(1_000)
    script = answering(sse(created, done=False) + final, content_type="text/event-stream")
    gateway = await start_gateway(
        deployments=(deployment(await start_scripted(script), MODEL),), background_timeout=0.5
    )
    streamed = await gateway.stream()
    assert b'{"a":' not in streamed.raw
    assert (await gateway.finished(streamed.id)).body["status"] == "failed"
