"""Streams that upstream breaks go on as if nothing had happened, and so does their record (contract 4.6 and 4.8)."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from service.store.records import USAGE_FINAL, USAGE_MISSING
from service.wire import event_ids
from tests.interactions.conversations import WEATHER, steps_of
from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Json, Streamed
from tests.support.upstreams import Emulated, Scripted, deployment, while_time_passes

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
async def test_a_loss_is_a_loss_for_whoever_comes_later(gateway: Gateway, headers: dict[str, str]) -> None:
    lost = await gateway.stream("Tell me", headers=headers, fault="cut;after=8,forget")
    assert (lost.types[-1], lost.broken, lost.done) == ("error", True, False)
    for place in (0, 2, len(lost.events) - 1):
        cursor = {"last_event_id": lost.events[place - 1]["event_id"]} if place else {}
        again = await gateway.events(lost.id, headers=headers, **cursor)
        assert again.events == lost.events[place:]
        assert (again.broken, again.done) == (True, False)
    # Behind the loss there is nothing that could be missing.
    after = await gateway.events(lost.id, headers=headers, last_event_id=lost.events[-1]["event_id"])
    assert (after.events, after.broken, after.done) == ([], False, True)


async def test_a_loss_is_a_loss_for_listeners_of_another_process(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway, other = await start_gateway(upstream), await start_gateway(upstream)
    async with (
        gateway.live("Tell me", headers=STEPS, fault="cut;after=8,forget") as live,
        other.attached(live.id, headers=STEPS) as steps,
        other.attached(live.id, headers=LEGACY) as legacy,
    ):
        upstream.clock.advance(1e6)
        told = await asyncio.gather(live.rest(), steps.rest(), legacy.rest())
    assert told[0].raw == told[1].raw
    for streamed in told:
        assert (streamed.types[-1], streamed.broken, streamed.done) == ("error", True, False)


async def test_an_error_that_upstream_declares_itself_is_no_loss_for_whoever_comes_later(
    gateway: Gateway,
) -> None:
    declared = await gateway.stream("Tell me", headers=STEPS, fault="error_event;after=8,forget")
    again = await gateway.events(declared.id, headers=STEPS)
    assert (declared.types[-1], declared.broken, declared.done) == ("error", False, True)
    assert (again.raw, again.broken, again.done) == (declared.raw, False, True)


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


async def test_what_is_made_of_upstreams_word_is_told_when_it_is_committed(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream)
    async with gateway.live("Tell me", headers=STEPS, fault="cut;after=6") as live:
        await live.next()
        upstream.clock.advance(600)
        while len(live.events) < 6:
            await live.next()
        async with gateway.database.held():
            upstream.clock.advance(1e6)
            asked = len(upstream.calls("GET"))

            async def asked_again() -> bool:
                return len(upstream.calls("GET")) > asked

            await eventually(asked_again)
            with pytest.raises(TimeoutError):
                await live.next(0.3)
        streamed = await live.rest()
    assert streamed.final["status"] == "completed"
    assert streamed.text == (await gateway.got(live.id)).text
