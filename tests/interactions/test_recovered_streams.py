"""Streams that upstream breaks go on as if nothing had happened, and so does their record (contract 4.6 and 4.8)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import orjson
import pytest
from aiohttp import web

from service.store.records import USAGE_FINAL, USAGE_MISSING
from service.wire import event_ids
from service.wire.assembler import Assembler
from tests.interactions.conversations import WEATHER
from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.replies import Json, Streamed
from tests.support.upstreams import Emulated, Scripted, deployment, sse

_Result = TypeVar("_Result")

#: Answers with searches, their results, thoughts, texts and pictures; or with a call whose arguments come in fragments.
ASKED: Json = {"content": "Tell me", "headers": STEPS, "tools": [{"type": "google_search"}]}
CALLING: Json = {**ASKED, "tools": [{"type": "google_search"}, WEATHER]}
WISH = "fragments;count=3,u2028,story"
#: Without cursors upstream is asked until it has ended; with them its stream is taken up.
WAYS = {"asked": WISH, "resumed": f"{WISH},event_ids"}
BREAKS = {
    "cut": "cut;after={}",
    "cut inside an event": "cut;after={};partial=true",
    "reset": "cut;after={};reset=true",
    "clean early end": "end;after={}",
    "error array in the body": "malformed_tail;after={}",
    "error event": "error_event;after={}",
}
ATTACHED = {"method": "GET", "path": "stream=true"}


def shown(told: Json) -> Json:
    """What must be the same of two runs of one request."""
    return {
        name: value
        for name, value in told.items()
        if name not in ("id", "created", "updated", "interaction_id")
    }


def alike(events: list[Json]) -> list[Json]:
    """Events as far as they must be the same in two runs, their ids included."""
    told = [shown(event) for event in events]
    return [
        {**event, "interaction": shown(event["interaction"])} if "interaction" in event else event
        for event in told
    ]


def steps_of(events: list[Json]) -> list[Json]:
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler.steps


async def record_of(gateway: Gateway, streamed: Streamed) -> Json:
    """What is stored, which the log must tell as it was told."""
    assert (await gateway.events(streamed.id, headers=STEPS)).events == streamed.events
    row = await gateway.database.row(streamed.id)
    figures = {name: value for name, value in row.items() if name.endswith("_tokens")}
    stored = orjson.loads(await gateway.database.response(streamed.id) or b"")
    return {**shown(stored), "row": (row["status"], row["usage_state"], row["error_code"]), **figures}


async def assert_undisturbed(gateway: Gateway, streamed: Streamed, whole: Streamed) -> None:
    """The stream told what the whole one did, once, and was stored as that was."""
    assert [event["event_id"] for event in streamed.events] == [
        event_ids.text(seq) for seq in range(1, len(streamed.events) + 1)
    ]
    assert "error" not in streamed.types
    assert streamed.text == whole.text
    assert steps_of(streamed.events) == steps_of(whole.events)
    assert shown(streamed.final) == shown(whole.final)
    assert await record_of(gateway, streamed) == await record_of(gateway, whole)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trouble", BREAKS)
async def test_a_stream_that_breaks_after_any_event_goes_on(
    gateway: Gateway, upstream: Emulated, trouble: str, way: str
) -> None:
    made = 0
    for asked in (ASKED, CALLING):
        whole = await gateway.stream(**asked, wish=WAYS[way])
        places = range(1, len(whole.events), 1 if trouble == "cut" else 5)
        broken = await asyncio.gather(
            *(
                gateway.stream(**asked, wish=WAYS[way], fault=BREAKS[trouble].format(place))
                for place in places
            )
        )
        for streamed in broken:
            await assert_undisturbed(gateway, streamed, whole)
            if way == "resumed":
                assert alike(streamed.events) == alike(whole.events)
        made += 1 + len(broken)
    assert len(upstream.creates) == made
    attached = [seen for seen in upstream.calls("GET") if "last_event_id" in seen["query"]]
    assert bool(attached) == (way == "resumed")


async def impatient(
    start_gateway: StartGateway, upstream: Emulated | Scripted, silence: float = 0.3
) -> Gateway:
    """The service with little patience for upstream's silence."""
    return await start_gateway(deployments=(deployment(upstream, MODEL, stream_timeout=silence),))


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_that_falls_silent_goes_on(
    upstream: Emulated, start_gateway: StartGateway, way: str
) -> None:
    gateway = await impatient(start_gateway, upstream)
    whole = await gateway.stream(**ASKED, wish=WAYS[way])
    stalled = await asyncio.gather(
        *(gateway.stream(**ASKED, wish=WAYS[way], fault=f"stall;after={place}") for place in (1, 4, 9))
    )
    for streamed in stalled:
        await assert_undisturbed(gateway, streamed, whole)


async def while_time_passes(upstream: Emulated, waiting: Awaitable[_Result], step: float) -> _Result:
    """What comes of this while upstream's clock goes on by so many seconds at a time."""
    task = asyncio.ensure_future(waiting)
    while not task.done():
        upstream.clock.advance(step)
        await asyncio.wait((task,), timeout=0.02)
    return task.result()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tail", ["array", "abort"])
async def test_the_cut_after_600_seconds_comes_again_and_again_and_is_not_seen(
    start_emulator: StartEmulator, start_gateway: StartGateway, way: str, tail: str
) -> None:
    # So slow that a stream brings five or six events at the most.
    upstream = await start_emulator(token_delay=120.0, stream_limit_tail=tail)
    gateway = await start_gateway(upstream)
    streamed = await while_time_passes(upstream, gateway.stream(**ASKED, wish=WAYS[way]), 60.0)
    undisturbed = await (await start_gateway(await start_emulator())).stream(**ASKED, wish=WAYS[way])
    await assert_undisturbed(gateway, streamed, undisturbed)
    attached = [seen for seen in upstream.calls("GET") if "last_event_id" in seen["query"]]
    if way == "resumed":
        assert len(attached) >= 2
        assert alike(streamed.events) == alike(undisturbed.events)
    else:
        assert not attached


async def test_a_stream_that_is_cut_after_every_event_goes_on(gateway: Gateway, upstream: Emulated) -> None:
    whole = await gateway.stream(**ASKED, wish=WAYS["resumed"])
    upstream.clear()
    upstream.fault("cut;after=1", count=0, **ATTACHED)
    streamed = await gateway.stream(**ASKED, wish=WAYS["resumed"], fault="cut;after=1")
    await assert_undisturbed(gateway, streamed, whole)
    assert alike(streamed.events) == alike(whole.events)
    # Each brought one event, from the second to the one before the last.
    assert len(upstream.calls("GET")) >= len(whole.events) - 2


async def test_a_stream_that_brings_nothing_any_more_is_asked_for(
    gateway: Gateway, upstream: Emulated
) -> None:
    whole = await gateway.stream(**ASKED, wish=WAYS["resumed"])
    upstream.fault("end;after=0", count=0, **ATTACHED)
    streamed = await gateway.stream(**ASKED, wish=WAYS["resumed"], fault="cut;after=7")
    await assert_undisturbed(gateway, streamed, whole)


@pytest.mark.parametrize("refusal", ["status;code=404", "status;code=400", "status;code=503", "html"])
async def test_upstream_may_refuse_to_go_on_with_a_stream(
    gateway: Gateway, upstream: Emulated, refusal: str
) -> None:
    whole = await gateway.stream(**ASKED, wish=WAYS["resumed"])
    upstream.fault(refusal, count=0, **ATTACHED)
    streamed = await gateway.stream(**ASKED, wish=WAYS["resumed"], fault="cut;after=7")
    await assert_undisturbed(gateway, streamed, whole)


@pytest.mark.parametrize("way", WAYS)
async def test_a_404_for_a_while_is_not_believed(
    upstream: Emulated, start_gateway: StartGateway, way: str
) -> None:
    gateway = await start_gateway(upstream, upstream_settle=5.0)
    whole = await gateway.stream(**ASKED, wish=WAYS[way])
    fault = "cut;after=6,not_found_after_create;gets=3"
    streamed = await gateway.stream(**ASKED, wish=WAYS[way], fault=fault)
    await assert_undisturbed(gateway, streamed, whole)


async def test_upstream_may_be_unreachable_for_a_while(gateway: Gateway, upstream: Emulated) -> None:
    whole = await gateway.stream(**ASKED, wish=WISH)
    upstream.fault("reset_before", count=2, method="GET")
    streamed = await gateway.stream(**ASKED, wish=WISH, fault="cut;after=6")
    await assert_undisturbed(gateway, streamed, whole)


async def test_what_is_truly_lost_ends_in_a_verdict_that_keeps_what_came(gateway: Gateway) -> None:
    whole = await gateway.stream(**ASKED, wish=WISH)
    lost = await gateway.stream(**ASKED, wish=WISH, fault="cut;after=12,forget")
    assert alike(lost.events[:-1]) == alike(whole.events[:12])
    assert lost.types[-1] == "error"
    assert lost.broken
    stored = (await gateway.got(lost.id, headers=STEPS)).body
    assert stored["status"] == "failed"
    assert stored["errors"] == [lost.events[-1]["error"]]
    assert stored["steps"] == steps_of(lost.events)
    again = await gateway.events(lost.id, headers=STEPS)
    assert again.events == lost.events


@pytest.mark.parametrize("headers", [STEPS, LEGACY, {}], ids=["steps", "legacy", "either"])
async def test_usage_that_the_end_lacks_is_fetched(
    gateway: Gateway, upstream: Emulated, headers: dict[str, str]
) -> None:
    whole = await gateway.stream("Tell me", headers=headers)
    upstream.clear()
    streamed = await gateway.stream("Tell me", headers=headers, fault="missing_usage")
    assert streamed.final["usage"] == whole.final["usage"]
    assert len(upstream.calls("GET")) == 1
    row = await gateway.database.row(streamed.id)
    assert (row["usage_state"], row["total_tokens"]) == (USAGE_FINAL, whole.final["usage"]["total_tokens"])
    assert (await gateway.got(streamed.id)).body["usage"] == (await gateway.got(whole.id)).body["usage"]


async def test_usage_that_upstream_does_not_know_yet_is_missing(gateway: Gateway, upstream: Emulated) -> None:
    streamed = await gateway.stream("Tell me", fault="missing_usage;seconds=1e9")
    assert streamed.final["status"] == "completed"
    assert "usage" not in streamed.final
    assert (await gateway.database.row(streamed.id))["usage_state"] == USAGE_MISSING
    assert len(upstream.calls("GET")) == 1


async def test_both_generations_are_told_the_rest(gateway: Gateway) -> None:
    asked = {**ASKED, "wish": WISH}
    for headers in (LEGACY, {}):
        whole = await gateway.stream(**{**asked, "headers": headers})
        streamed = await gateway.stream(**{**asked, "headers": headers}, fault="cut;after=14")
        assert streamed.text == whole.text != ""
        assert streamed.final["outputs"] == whole.final["outputs"]
        assert [event for event in streamed.types if event == "content.start"] == [
            event for event in whole.types if event == "content.start"
        ]


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


async def test_what_upstream_sends_again_is_not_told_again(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    streamed = await assert_whole(await start_gateway(await scripted(start_scripted, [*OPENING, *REST])))
    assert len(streamed.events) == len(OPENING) + len(REST)


async def test_a_stream_that_begins_anew_under_other_ids_is_not_told(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    anew = [{**event, "event_id": f"n{place}"} for place, event in enumerate([*OPENING, *REST])]
    await assert_whole(await start_gateway(await scripted(start_scripted, anew)))


async def test_a_whole_that_begins_otherwise_is_kept_and_the_stream_broken_off(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    other = {**WHOLE, "steps": [{"type": "thought", "signature": "Xx"}, *WHOLE["steps"][1:]]}
    gateway = await start_gateway(await scripted(start_scripted, [], other))
    streamed = await gateway.stream(headers=STEPS)
    assert streamed.types[-1] == "error"
    assert streamed.broken
    stored = await gateway.got(streamed.id, headers=STEPS)
    assert (stored.body["status"], stored.body["steps"]) == ("completed", other["steps"])


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
