"""Streams that upstream goes on with in ways of its own: other ids, repetitions, steps that no schema knows."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web

from service.wire import event_ids
from tests.interactions.conversations import steps_of
from tests.support.gateway import LEGACY, STEPS, Gateway
from tests.support.gateways import StartGateway, StartScripted
from tests.support.replies import Json, Streamed
from tests.support.upstreams import Script, Scripted, answering, sse

OPENING: list[Json] = [
    {
        "event_type": "interaction.created",
        "interaction": {"id": "v1_a", "status": "in_progress"},
        "event_id": "u1",
    },
    {"event_type": "step.start", "index": 0, "step": {"type": "thought"}, "event_id": "u2"},
    {
        "event_type": "step.delta",
        "index": 0,
        "delta": {"type": "thought_signature", "signature": "Co"},
        "event_id": "u3",
    },
]
REST: list[Json] = [
    {
        "event_type": "step.delta",
        "index": 0,
        "delta": {"type": "thought_signature", "signature": "4="},
        "event_id": "u4",
    },
    {"event_type": "step.stop", "index": 0, "event_id": "u5"},
    {
        "event_type": "step.start",
        "index": 1,
        "step": {"type": "model_output", "content": [{"type": "text", "text": "One\u2028"}]},
        "event_id": "u6",
    },
    {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "two\x85"}, "event_id": "u7"},
    {"event_type": "step.delta", "index": 1, "delta": {"type": "aroma", "smell": "of", "power": 1}},
    {"event_type": "step.stop", "index": 1, "event_id": "u9"},
    {
        "event_type": "interaction.completed",
        "interaction": {"id": "v1_a", "status": "completed", "usage": {"total_tokens": 3}},
        "event_id": "u10",
    },
]
WHOLE: Json = {
    "id": "v1_a",
    "status": "completed",
    "usage": {"total_tokens": 3},
    "steps": [
        {"type": "thought", "signature": "Co4="},
        {
            "type": "model_output",
            "content": [{"type": "text", "text": "One\u2028two\x85"}],
            "smell": "of",
            "power": 1,
        },
    ],
}


async def scripted(start_scripted: StartScripted, resumed: list[Json], whole: Json = WHOLE) -> Scripted:
    """An upstream that breaks off after its opening, with CRLF for line ends, and then sends or tells this."""

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and "stream" not in request.query:
            return web.Response(body=orjson.dumps(whole), content_type="application/json")
        body = sse(*resumed) if request.method == "GET" else sse(*OPENING, done=False)
        return web.Response(body=body.replace(b"\n", b"\r\n"), content_type="text/event-stream")

    return await start_scripted(script)


def silent(body: bytes, content_type: str) -> Script:
    """An upstream that says nothing behind its opening, and answers so whoever asks it afterwards."""

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(body=body, content_type=content_type)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(*OPENING, done=False))
        await asyncio.sleep(3600)
        return response

    return script


async def assert_whole(gateway: Gateway) -> Streamed:
    streamed = await gateway.stream(headers=STEPS)
    assert steps_of(streamed.events) == WHOLE["steps"]
    assert streamed.types.count("interaction.created") == 1
    assert streamed.final["status"] == "completed"
    stored = await gateway.got(streamed.id, headers=STEPS)
    assert (stored.body["steps"], stored.body["usage"]) == (WHOLE["steps"], WHOLE["usage"])
    return streamed


async def test_the_rest_may_hold_anything(start_scripted: StartScripted, start_gateway: StartGateway) -> None:
    streamed = await assert_whole(await start_gateway(await scripted(start_scripted, REST)))
    assert "\u2028".encode() in streamed.raw
    assert b"\r" not in streamed.raw


@pytest.mark.parametrize("status", [404, 410])
async def test_a_stream_that_upstream_does_not_know_yet_is_taken_up_later(
    start_scripted: StartScripted, start_gateway: StartGateway, status: int
) -> None:
    asked: list[str] = []

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(body=sse(*OPENING, done=False), content_type="text/event-stream")
        asked.append("stream" if "stream" in request.query else "word")
        if len(asked) <= 2:
            return web.json_response({"error": {"code": "not_found", "message": "No."}}, status=status)
        if asked[-1] == "stream":
            return web.Response(body=sse(*REST), content_type="text/event-stream")
        return web.json_response({"id": "v1_a", "status": "in_progress"})

    async with asyncio.timeout(30):
        await assert_whole(await start_gateway(await start_scripted(script), upstream_settle=5.0))
    assert asked == ["stream", "word", "stream"]


async def test_what_upstream_sends_again_is_not_told_again(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    streamed = await assert_whole(await start_gateway(await scripted(start_scripted, [*OPENING, *REST])))
    assert len(streamed.events) == len(OPENING) + len(REST)


@pytest.mark.parametrize("first", range(1, len(OPENING) + 1))
async def test_what_upstream_sends_again_to_another_reader_is_not_told_again(
    start_scripted: StartScripted, start_gateway: StartGateway, first: int
) -> None:
    again = sse(*OPENING[first:], *REST)
    upstream = await start_scripted(silent(again, "text/event-stream"))
    gateway = await start_gateway(upstream, drain_timeout=0.1)
    async with gateway.live(headers=STEPS) as live:
        while len(live.events) < len(OPENING):
            await live.next()
        await gateway.stop()
    other = await start_gateway(upstream)
    events = (await other.events(live.id, headers=STEPS)).events
    assert events[: len(OPENING)] == live.events[: len(OPENING)]
    assert [event["event_id"] for event in events] == [
        event_ids.text(seq) for seq in range(1, len(OPENING) + len(REST) + 1)
    ]
    assert steps_of(events) == WHOLE["steps"]


async def test_events_of_one_stream_may_have_one_id(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    alike = [{**event, "event_id": "evt_123"} for event in [*OPENING, *REST]]

    async def script(request: web.Request) -> web.Response:
        return web.Response(body=sse(*alike), content_type="text/event-stream")

    await assert_whole(await start_gateway(await start_scripted(script)))


async def test_a_delta_that_names_its_interaction_names_ours(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    named = [{**event, "interaction_id": "v1_a"} for event in REST]
    for event in named:
        event.pop("event_id", None)

    async def script(request: web.Request) -> web.Response:
        return web.Response(body=sse(*OPENING, *named), content_type="text/event-stream")

    streamed = await (await start_gateway(await start_scripted(script))).stream(headers=STEPS)
    assert b"v1_a" not in streamed.raw
    assert {event["interaction_id"] for event in streamed.events if "interaction_id" in event} == {
        streamed.id
    }
    assert steps_of(streamed.events) == WHOLE["steps"]


@pytest.mark.parametrize(
    ("sent", "told"), [(rb"\ud83d", "\ufffd"), (b"\xff", "\ufffd"), (rb"\ud83d\ude00", "\U0001f600")]
)
async def test_what_is_no_text_is_told_as_such_and_the_rest_is_kept(
    start_scripted: StartScripted, start_gateway: StartGateway, sent: bytes, told: str
) -> None:
    async def script(request: web.Request) -> web.Response:
        body = sse(*OPENING, *REST).replace(b'"of"', b'"%b"' % sent).replace(b'"two', b'"%b' % sent)
        return web.Response(body=body, content_type="text/event-stream")

    gateway = await start_gateway(await start_scripted(script))
    streamed = await gateway.stream(headers=STEPS)
    stored = await gateway.got(streamed.id, headers=STEPS)
    expected = {
        "type": "model_output",
        "content": [{"type": "text", "text": f"One\u2028{told}\x85"}],
        "smell": told,
        "power": 1,
    }
    assert steps_of(streamed.events)[1] == stored.body["steps"][1] == expected
    assert stored.body["status"] == "completed"


async def test_a_stream_that_begins_anew_under_other_ids_is_not_told(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    anew = [{**event, "event_id": f"n{place}"} for place, event in enumerate([*OPENING, *REST])]
    await assert_whole(await start_gateway(await scripted(start_scripted, anew)))


@pytest.mark.parametrize("status", ["completed", "incomplete"])
async def test_a_whole_that_begins_otherwise_is_kept_and_the_stream_broken_off(
    start_scripted: StartScripted, start_gateway: StartGateway, status: str
) -> None:
    other = {
        **WHOLE,
        "status": status,
        "steps": [{"type": "thought", "signature": "Xx"}, *WHOLE["steps"][1:]],
    }
    gateway = await start_gateway(await scripted(start_scripted, [], other))
    streamed = await gateway.stream(headers=STEPS)
    assert streamed.types[-1] == "error"
    assert streamed.broken
    stored = await gateway.got(streamed.id, headers=STEPS)
    assert (stored.body["status"], stored.body["steps"]) == (status, other["steps"])


def less(status: str) -> Json:
    """An end of which upstream shows nothing but its usage."""
    return {"id": "v1_a", "status": status, "steps": [], "usage": {"total_tokens": 3}}


async def assert_kept(gateway: Gateway, streamed: Streamed, status: str) -> None:
    """What was told is kept, with upstream's word for how it ended."""
    assert (streamed.types[-1], streamed.final["status"]) == ("interaction.completed", status)
    assert not streamed.broken
    stored = (await gateway.got(streamed.id, headers=STEPS)).body
    assert steps_of(streamed.events) == stored["steps"] == [{"type": "thought", "signature": "Co"}]
    assert (stored["status"], stored["usage"]) == (status, {"total_tokens": 3})
    assert ("errors" in stored) == (status == "failed")
    row = await gateway.database.row(streamed.id)
    assert (row["status"], row["error_code"]) == (status, "bad_gateway" if status == "failed" else None)


@pytest.mark.parametrize("status", ["failed", "cancelled", "incomplete", "budget_exceeded"])
async def test_what_was_told_is_kept_though_upstream_shows_less_of_a_bad_end(
    start_scripted: StartScripted, start_gateway: StartGateway, status: str
) -> None:
    gateway = await start_gateway(await scripted(start_scripted, [], less(status)))
    await assert_kept(gateway, await gateway.stream(headers=STEPS), status)


async def test_what_another_process_has_told_is_kept_though_upstream_shows_less_of_a_bad_end(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    upstream = await start_scripted(silent(orjson.dumps(less("failed")), "application/json"))
    gateway = await start_gateway(upstream, drain_timeout=0.1)
    async with gateway.live(headers=STEPS, background=True) as live:
        while len(live.events) < len(OPENING):
            await live.next()
        await gateway.stop()
    # Nobody reads it there: upstream is asked how it stands.
    other = await start_gateway(upstream, background_streams=0, poll_interval=0.02)
    await other.finished(live.id)
    await assert_kept(other, await other.events(live.id, headers=STEPS), "failed")


async def test_a_type_that_only_the_line_names_stands_in_the_json_too(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    odd = b'event: weather.changed\ndata: {"of":{"event_type":"another"}}\n\n'
    body = sse(OPENING[0], done=False) + odd + sse(*OPENING[1:], *REST)

    async def script(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="text/event-stream")

    streamed = await assert_whole(await start_gateway(await start_scripted(script)))
    assert streamed.events[1] == {
        "of": {"event_type": "another"},
        "event_type": "weather.changed",
        "event_id": "evt_2",
    }


async def test_an_event_that_is_larger_than_what_may_wait_for_the_database_passes(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    picture = {"type": "image", "mime_type": "image/png", "data": "aGVs" * (5 * 256 * 1024)}
    events: list[Any] = [
        OPENING[0],
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        *({"event_type": "step.delta", "index": 0, "delta": picture} for _ in range(3)),
        {"event_type": "step.stop", "index": 0},
        REST[-1],
    ]

    async def script(request: web.Request) -> web.StreamResponse:
        return web.Response(body=sse(*events), content_type="text/event-stream")

    gateway = await start_gateway(await start_scripted(script))
    streamed = await gateway.stream(headers=STEPS)
    assert streamed.final["status"] == "completed"
    assert (await gateway.got(streamed.id)).steps == [{"type": "model_output", "content": [picture] * 3}]
    assert (await gateway.events(streamed.id, headers=STEPS)).events == streamed.events


async def test_upstreams_id_is_an_alias_from_the_moment_it_is_told(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    asked, told, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        asked.set()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await told.wait()
        await response.prepare(request)
        await response.write(sse(*OPENING, done=False))
        await over.wait()
        await response.write(sse(*REST))
        return response

    gateway = await start_gateway(await start_scripted(script))

    async def follow() -> None:
        async with gateway.live(headers=STEPS) as live:
            assert live.response.headers["x-upstream-interaction-id"] == "v1_a"
            assert (await gateway.got("v1_a")).id == live.id
            over.set()
            assert (await live.rest()).final["status"] == "completed"

    following = asyncio.create_task(follow())
    await asked.wait()
    async with gateway.database.held():
        told.set()
        # What it commits at its end waits until the database can be written again.
        ending = asyncio.create_task(over.wait())
        await asyncio.wait((following, ending), return_when=asyncio.FIRST_COMPLETED)
        over.set()
    await following
    await ending


@pytest.mark.parametrize("headers", [STEPS, LEGACY], ids=["steps", "legacy"])
@pytest.mark.parametrize(
    ("end", "status"),
    [
        (
            {"event_type": "interaction.failed", "error": {"code": "api_error", "message": "It broke"}},
            "failed",
        ),
        (
            {"event_type": "interaction.incomplete", "interaction": {"usage": {"total_tokens": 3}}},
            "incomplete",
        ),
        ({"event_type": "interaction.requires_action"}, "requires_action"),
        ({"event_type": "interaction.cancelled", "interaction": {"status": "cancelled"}}, "cancelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_end_by_another_name_is_told_by_the_one_that_clients_know(
    start_scripted: StartScripted,
    start_gateway: StartGateway,
    end: Json,
    status: str,
    headers: dict[str, str],
) -> None:
    body = sse(*OPENING, {"event_type": "step.stop", "index": 0}, end)
    gateway = await start_gateway(await start_scripted(answering(body, content_type="text/event-stream")))
    streamed = await gateway.stream(headers=headers)
    again = await gateway.events(streamed.id, headers=headers)
    stored = (await gateway.got(streamed.id, headers=headers)).body
    for told in (streamed.final, again.final, stored):
        assert told["status"] == status
        assert told.get("usage") == end.get("interaction", {}).get("usage")
        assert told.get("errors") == ([end["error"]] if "error" in end else None)
