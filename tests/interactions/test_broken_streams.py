"""Streams that upstream loses: the client is told so, the record says what became of it (contract 4.8)."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web

from service.settings import DeploymentSettings
from tests.support.gateway import MODEL, STEPS, Gateway
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.replies import Json, Streamed
from tests.support.upstreams import Emulated, answering, deployment, sse

#: Ways to end a stream before its end.
LOSSES = ["cut;after=8", "cut;after=8;partial=true", "end;after=8", "malformed_tail;after=8"]


def assert_lost(streamed: Streamed) -> str:
    """The stream told of an error and was then cut; returns what it said."""
    assert streamed.types[-1] == "error"
    assert streamed.types.count("error") == 1
    error = streamed.events[-1]["error"]
    assert sorted(error) == ["code", "message"]
    assert streamed.broken
    assert not streamed.done
    assert not any(kind.startswith("interaction.complete") for kind in streamed.types)
    message: str = error["message"]
    return message


@pytest.mark.parametrize("loss", LOSSES)
async def test_what_upstream_still_knows_is_told_to_the_end(
    gateway: Gateway, upstream: Emulated, loss: str
) -> None:
    whole = await gateway.ask("Tell me")
    streamed = await gateway.stream("Tell me", fault=loss)
    assert streamed.done
    assert not streamed.broken
    assert streamed.text == whole.text
    assert streamed.final["status"] == "completed"
    read = await gateway.got(streamed.id)
    assert read.steps == whole.steps
    row = await gateway.database.row(streamed.id)
    assert row["total_tokens"] == whole.body["usage"]["total_tokens"]
    assert len(upstream.creates) == 2
    # The rest of the conversation is none the worse for it.
    follow_up = await gateway.ask("More", previous_interaction_id=streamed.id)
    assert '"Tell me"' in follow_up.text


async def assert_failed(gateway: Gateway, streamed: Streamed) -> None:
    """What came is kept, under the verdict that the client was told."""
    read = await gateway.finished(streamed.id)
    assert read.body["status"] == "failed"
    assert read.body["errors"] == [streamed.events[-1]["error"]]
    assert read.text == streamed.text != ""
    row = await gateway.database.row(streamed.id)
    told = {"code": row["error_code"], "message": row["error_message"]}
    assert (row["status"], told) == ("failed", streamed.events[-1]["error"])
    reply = await gateway.refused(400, previous_interaction_id=streamed.id)
    assert "failed" in reply.error["message"]
    assert (await gateway.events(streamed.id)).events[-1]["error"] == streamed.events[-1]["error"]


async def test_what_upstream_has_lost_is_failed_and_what_came_is_kept(gateway: Gateway) -> None:
    async def lose(loss: str) -> None:
        streamed = await gateway.stream("Tell me", fault=f"{loss},forget")
        assert_lost(streamed)
        assert streamed.events[-1]["error"]["code"] == "bad_gateway"
        await assert_failed(gateway, streamed)

    async def declare() -> None:
        fault = "error_event;after=8;code=gateway_timeout;message=Too slow,forget"
        streamed = await gateway.stream("Tell me", fault=fault)
        assert streamed.events[-1]["error"] == {"code": "gateway_timeout", "message": "Too slow"}
        # Upstream said so itself: nothing was lost on the way.
        assert streamed.done
        assert not streamed.broken
        await assert_failed(gateway, streamed)

    # A loss is believed when upstream has said for some seconds that there is no such interaction.
    await asyncio.gather(declare(), *(lose(loss) for loss in LOSSES))


async def test_what_upstream_never_kept_is_failed(gateway: Gateway, upstream: Emulated) -> None:
    streamed = await gateway.stream("Tell me", store=False, fault="cut;after=8")
    assert_lost(streamed)
    row = await gateway.database.row(streamed.id)
    assert row["status"] == "failed"
    assert len(upstream.requests) == 1
    stored = orjson.loads(await gateway.database.response(streamed.id) or b"")
    assert stored["steps"]


async def test_a_loss_before_the_first_event_is_told(gateway: Gateway) -> None:
    streamed = await gateway.stream(fault="reset_headers")
    assert streamed.types == ["error"]
    assert_lost(streamed)
    name = streamed.headers["x-interaction-id"]
    stored = (await gateway.got(name)).body
    assert (stored["status"], stored["object"], stored["model"]) == ("failed", "interaction", MODEL)


async def test_what_came_is_kept_before_the_client_is_told_of_the_loss(gateway: Gateway) -> None:
    async with gateway.live("Tell me", store=False, fault="cut;after=8") as unstored:
        await unstored.until("error")
        assert (await gateway.database.row(unstored.id))["status"] == "failed"
    async with gateway.live("Tell me", fault="cut;after=8,forget") as live:
        await live.until("error")
        assert await gateway.database.response(live.id) is not None


async def test_an_error_event_does_not_hide_what_upstream_completed(gateway: Gateway) -> None:
    streamed = await gateway.stream("Tell me", fault="error_event;after=8")
    assert "error" not in streamed.types
    assert streamed.final["status"] == "completed"
    assert (await gateway.got(streamed.id)).body["status"] == "completed"


async def test_a_stream_may_go_on_after_an_error_event(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    events: list[Json] = [
        {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}},
        {"event_type": "error", "error": {"code": "api_error", "message": "A hiccup"}},
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "All is well"}},
        {"event_type": "step.stop", "index": 0},
        {"event_type": "interaction.completed", "interaction": {"id": "v1_a", "status": "completed"}},
    ]
    upstream = await start_scripted(answering(sse(*events), content_type="text/event-stream"))
    gateway = await start_gateway(upstream)
    streamed = await gateway.stream(headers=STEPS)
    assert streamed.types == [event["event_type"] for event in events]
    assert streamed.final["status"] == "completed"
    assert (await gateway.got(streamed.id)).text == "All is well"
    assert (await gateway.database.row(streamed.id))["error_code"] is None


async def test_an_error_among_events_that_can_be_had_again_is_not_told(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    events: list[Json] = [
        {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}},
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "All is well"}},
        {"event_type": "step.stop", "index": 0},
        {"event_type": "interaction.completed", "interaction": {"id": "v1_a", "status": "completed"}},
    ]
    with_cursors = [{**event, "event_id": f"u{place}"} for place, event in enumerate(events)]
    hiccup = {"event_type": "error", "error": {"code": "api_error", "message": "A hiccup"}}
    for place in range(4):
        error = {**hiccup, "event_id": "u9"} if place % 2 else hiccup
        body = sse(*with_cursors[:place], error, *with_cursors[place:])
        upstream = await start_scripted(answering(body, content_type="text/event-stream"))
        gateway = await start_gateway(upstream)
        streamed = await gateway.stream(headers=STEPS)
        assert streamed.types == [event["event_type"] for event in events]
        assert streamed.text == "All is well"


async def test_legacy_clients_are_told_too(gateway: Gateway) -> None:
    streamed = await gateway.stream(headers={"api-revision": "2026-05-07"}, store=False, fault="cut;after=8")
    assert streamed.types[0] == "interaction.start"
    assert_lost(streamed)


@pytest.mark.parametrize(
    "fault", ["crlf", "comments", "missing_event_type", "no_done", "trickle;bytes=100;seconds=0"]
)
async def test_oddities_of_framing_lose_nothing(gateway: Gateway, fault: str) -> None:
    plain = await gateway.stream("Tell me")
    odd = await gateway.stream("Tell me", fault=fault)
    assert odd.types == plain.types
    assert odd.text == plain.text
    assert odd.final["status"] == "completed"
    assert (await gateway.got(odd.id)).steps == (await gateway.got(plain.id)).steps


async def test_silence_beyond_the_limit_does_not_end_a_stream_that_upstream_works_on(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=3600.0, stream_limit_seconds=1e9)
    entry: DeploymentSettings = deployment(upstream, MODEL, stream_timeout=0.2)
    gateway = await start_gateway(deployments=(entry,))
    async with gateway.live("Slowly") as live:
        await live.until("interaction.created")
        await asyncio.sleep(0.5)
        assert (await gateway.got(live.id)).body["status"] == "in_progress"
        upstream.clock.advance(1e6)
        await live.until("interaction.completed")
    read = await gateway.got(live.id)
    assert read.body["status"] == "completed"
    assert (await gateway.database.row(live.id))["total_tokens"] == read.body["usage"]["total_tokens"]


async def test_silence_beyond_the_limit_is_a_loss_where_upstream_keeps_nothing(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=3600.0, stream_limit_seconds=1e9)
    entry: DeploymentSettings = deployment(upstream, MODEL, stream_timeout=0.2)
    gateway = await start_gateway(deployments=(entry,))
    streamed = await gateway.stream("Slowly", store=False)
    assert "in time" in assert_lost(streamed)
    assert streamed.events[-1]["error"]["code"] == "deadline_exceeded"
    assert (await gateway.database.row(streamed.id))["status"] == "failed"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (b'event: step.start\ndata: {"index":0,\n\n', "not JSON"),
        (b'data: [{"error":{"code":504,"message":"Deadline expired"}}]\n\n', "not an event"),
    ],
    ids=["cut", "a list of errors"],
)
async def test_what_is_no_event_is_a_loss(
    start_scripted: StartScripted, start_gateway: StartGateway, block: bytes, said: str
) -> None:
    created = {"event_type": "interaction.created", "interaction": {"status": "in_progress"}}
    body = sse(created, done=False) + block
    gateway = await start_gateway(await start_scripted(answering(body, content_type="text/event-stream")))
    streamed = await gateway.stream()
    assert said in assert_lost(streamed)
    assert (await gateway.database.row(streamed.id))["status"] == "failed"


@pytest.mark.parametrize("nothing", [b"", b" null", b" 5", b' "ping"', b" true"])
async def test_a_value_that_says_nothing_is_skipped(
    start_scripted: StartScripted, start_gateway: StartGateway, nothing: bytes
) -> None:
    interaction = {"id": "v1_a", "status": "in_progress"}
    created = {"event_type": "interaction.created", "interaction": interaction}
    completed = {"event_type": "interaction.completed", "interaction": {**interaction, "status": "completed"}}
    body = sse(created, done=False) + b"event: ping\ndata:%b\n\n" % nothing + sse(completed)
    gateway = await start_gateway(await start_scripted(answering(body, content_type="text/event-stream")))
    streamed = await gateway.stream(store=False)
    assert streamed.types == ["interaction.created", "interaction.completed"]
    assert streamed.final["status"] == "completed"


@pytest.mark.parametrize("page", [b"<p>Sorry</p>", b"Sorry", b""])
async def test_a_page_instead_of_a_stream_is_a_failure(
    start_scripted: StartScripted, start_gateway: StartGateway, page: bytes
) -> None:
    gateway = await start_gateway(await start_scripted(answering(page, content_type="text/plain")))
    reply = await gateway.refused(502, stream=True)
    assert reply.error["code"] == "bad_gateway"
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert (row["status"], row["error_code"]) == ("failed", "bad_gateway")


async def test_an_event_that_nobody_can_read_ends_its_stream_at_once(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    asked = []
    created = {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}}
    deep = b'{"event_type":"step.delta","index":0,"delta":{"type":"odd","x":%b%b}}' % (b"[" * 300, b"]" * 300)

    async def script(request: web.Request) -> web.StreamResponse:
        asked.append(request.method)
        return web.Response(body=sse(created, deep), content_type="text/event-stream")

    gateway = await start_gateway(await start_scripted(script))
    streamed = await gateway.stream()
    assert "nested deeper than 200 levels" in assert_lost(streamed)
    assert (await gateway.database.row(streamed.id))["status"] == "failed"
    assert asked == ["POST"]
