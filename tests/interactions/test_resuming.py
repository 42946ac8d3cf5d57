"""Clients that leave and come back with the id of the last event they have seen: no gap, no repeat (contract 4.6)."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import LEGACY, STEPS, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Json, Live, Reply
from tests.support.upstreams import Emulated

WHOLE = 1e6
REVISIONS = {"steps": STEPS, "legacy": LEGACY, "either": {}}
#: Pictures between texts: of some events a legacy client is told several.
ASKED: Json = {
    "content": "Tell me",
    "tools": [{"type": "google_search"}],
    "wish": "story,fragments;count=2",
}


@pytest.fixture
async def slow(start_emulator: StartEmulator) -> Emulated:
    """An emulator whose streams go on only when its clock is moved: one event a minute."""
    return await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)


@pytest.fixture
async def patient(slow: Emulated, start_gateway: StartGateway) -> Gateway:
    """The service before that emulator."""
    return await start_gateway(slow)


async def rest_of(gateway: Gateway, name: str, cursor: str, headers: dict[str, str], way: str) -> list[Json]:
    """What comes behind an event: asked for as this API does, or as browsers do."""
    if way == "header":
        resumed = await gateway.events(name, headers={**headers, "Last-Event-ID": cursor})
    else:
        resumed = await gateway.events(name, headers=headers, last_event_id=cursor)
    assert resumed.done
    assert not resumed.broken
    return resumed.events


async def first_events(live: Live, count: int) -> list[Json]:
    """So many events, after which the client leaves."""
    for _ in range(count):
        assert await live.next() is not None
    live.leave()
    return live.events[:count]


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_client_that_leaves_after_any_event_and_resumes_has_seen_the_whole_stream(
    gateway: Gateway, revision: str
) -> None:
    headers = REVISIONS[revision]
    whole = await gateway.stream(**ASKED, headers=headers)
    known = [event["event_id"] for event in whole.events]
    assert len(set(known)) == len(known)

    async def leave_and_resume(count: int) -> None:
        async with gateway.live(**ASKED, headers=headers) as live:
            seen = await first_events(live, count)
        way = "header" if count % 2 else "query"
        seen += await rest_of(gateway, live.id, seen[-1]["event_id"], headers, way)
        assert seen == (await gateway.events(live.id, headers=headers)).events
        assert [event["event_id"] for event in seen] == known

    await asyncio.gather(*(leave_and_resume(count) for count in range(1, len(known) + 1)))


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_client_that_leaves_after_every_event_of_a_running_stream_misses_none(
    patient: Gateway, slow: Emulated, revision: str
) -> None:
    headers = REVISIONS[revision]
    async with patient.live(**ASKED, headers=headers) as live:
        seen = await first_events(live, 1)
    while not seen[-1]["event_type"].startswith("interaction.complete"):
        cursor = seen[-1]["event_id"]
        async with patient.attached(live.id, headers=headers, last_event_id=cursor) as resumed:
            coming = asyncio.create_task(first_events(resumed, 1))
            # Of some events a legacy client is told nothing.
            while not coming.done():
                slow.clock.advance(60)
                await asyncio.wait((coming,), timeout=0.05)
            seen += coming.result()
    assert seen == (await patient.events(live.id, headers=headers)).events
    assert len(slow.requests) == 1


async def test_a_running_stream_is_resumed_from_any_event_at_once(patient: Gateway, slow: Emulated) -> None:
    async with patient.live(**ASKED, headers=STEPS) as live:
        await live.next()
        slow.clock.advance(60 * 12)
        while len(live.events) < 12:
            await live.next()
        told = list(live.events)

        async def resume(place: int) -> list[Json]:
            cursor = told[place - 1]["event_id"]
            async with patient.attached(live.id, headers=STEPS, last_event_id=cursor) as resumed:
                # The answer begins though there may be no event yet.
                return (await resumed.rest()).events

        resuming = [asyncio.create_task(resume(place)) for place in range(1, 13)]
        await asyncio.sleep(0)
        slow.clock.advance(WHOLE)
        whole = (await live.rest()).events
        for place, rest in enumerate(await asyncio.gather(*resuming), 1):
            assert rest == whole[place:]


async def test_the_answer_begins_before_the_next_event(patient: Gateway, slow: Emulated) -> None:
    async with patient.live(**ASKED, headers=STEPS) as live:
        await live.next()
        last = await live.next()
        assert last is not None
        async with patient.attached(live.id, headers=STEPS, last_event_id=last["event_id"]) as resumed:
            assert resumed.id == live.id
            assert resumed.response.headers["x-upstream-interaction-id"]
            assert resumed.events == []
            slow.clock.advance(WHOLE)
            assert (await live.rest()).events[2:] == (await resumed.rest()).events


def refusal(reply: Reply, cursor: str) -> None:
    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    assert cursor in reply.error["message"]
    assert "last_event_id" in reply.error["message"]


async def test_an_unknown_cursor_is_refused(patient: Gateway, slow: Emulated) -> None:
    cursors = [
        "nonsense",
        "evt_0",
        "evt_01",
        "evt_",
        "evt_999",
        "replay_1",
        "0",
        "evt_1;drop",
        "evt_" + "9" * 30,
    ]
    async with patient.live(**ASKED, headers=STEPS) as live:
        await live.next()
        for cursor in cursors:
            refusal(await patient.get(live.id, stream="true", last_event_id=cursor), cursor)
        slow.clock.advance(WHOLE)
        await live.rest()
    for cursor in cursors:
        refusal(await patient.get(live.id, stream="true", last_event_id=cursor), cursor)
        refusal(await patient.get(live.id, stream="true", headers={"last-event-id": cursor}), cursor)


async def test_a_part_that_no_event_has_is_refused(gateway: Gateway) -> None:
    whole = await gateway.stream(**ASKED, headers=LEGACY)
    parted = next(event["event_id"] for event in whole.events if "." in event["event_id"])
    unknown = parted.split(".")[0] + ".99"
    reply = await gateway.get(whole.id, headers=LEGACY, stream="true", last_event_id=unknown)
    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    assert "99" in reply.error["message"]
    # For who is told steps the event was not seen to its end.
    resumed = await gateway.events(whole.id, headers=STEPS, last_event_id=parted)
    assert resumed.events[0]["event_id"] == parted.split(".")[0]


async def test_a_cursor_without_a_stream_is_refused_and_the_header_of_browsers_ignored(
    gateway: Gateway,
) -> None:
    streamed = await gateway.stream(**ASKED)
    cursor = streamed.events[0]["event_id"]
    refusal(await gateway.get(streamed.id, last_event_id=cursor), "")
    assert (await gateway.got(streamed.id, headers={"Last-Event-ID": cursor})).status == 200
    # The query is what the caller says now, the header what the browser remembers.
    resumed = await gateway.events(
        streamed.id, headers={"Last-Event-ID": cursor}, last_event_id=streamed.events[3]["event_id"]
    )
    assert [event["event_id"] for event in resumed.events] == [
        event["event_id"] for event in streamed.events[4:]
    ]


async def test_what_was_not_streamed_is_resumed_by_the_ids_of_its_replay(gateway: Gateway) -> None:
    made = await gateway.ask("Tell me")
    for headers in (STEPS, LEGACY):
        whole = await gateway.events(made.id, headers=headers)
        for place, event in enumerate(whole.events, 1):
            rest = await rest_of(gateway, made.id, event["event_id"], headers, "query")
            assert rest == whole.events[place:]
    refusal(await gateway.get(made.id, stream="true", last_event_id="evt_1"), "evt_1")
    refusal(await gateway.get(made.id, stream="true", last_event_id="replay_999"), "replay_999")


async def test_a_log_is_told_for_ever_as_it_was_told_first(
    gateway: Gateway, upstream: Emulated, start_gateway: StartGateway
) -> None:
    whole = await gateway.stream(**ASKED, headers=STEPS)
    await gateway.stop()
    upstream.forget()
    other = await start_gateway(upstream)
    again = await other.events(whole.id, headers=STEPS)
    assert again.raw == whole.raw
    assert again.headers["content-type"] == whole.headers["content-type"] == "text/event-stream"


async def test_a_deleted_stream_is_broken_off_where_its_rest_is_gone(
    patient: Gateway, slow: Emulated
) -> None:
    async with patient.live(**ASKED, headers=STEPS) as live:
        await live.next()
        assert (await patient.delete(live.id)).status == 200
        assert (await patient.get(live.id, stream="true")).error["code"] == "not_found"
        slow.clock.advance(WHOLE)
        await live.rest()


async def test_a_stop_ends_streams_so_that_they_go_on_elsewhere(
    slow: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(slow, drain_timeout=0.3)
    async with gateway.live(**ASKED, headers=STEPS) as live:
        await live.next()
        slow.clock.advance(60 * 8)
        while len(live.events) < 8:
            await live.next()
        await gateway.stop()
        cut = await live.rest()
    assert cut.broken
    assert not cut.done
    other = await start_gateway(slow)
    async with other.attached(live.id, headers=STEPS, last_event_id=cut.events[-1]["event_id"]) as resumed:
        slow.clock.advance(WHOLE)
        # Whoever asks how it stands has its end recorded.
        await other.finished(live.id)
        rest = await resumed.rest()
    assert rest.done
    whole = (await other.events(live.id, headers=STEPS)).events
    assert cut.events + rest.events == whole
    assert rest.final["status"] == "completed"


async def test_a_database_that_cannot_be_written_for_a_while_delays_nothing_but_the_end(
    patient: Gateway, slow: Emulated
) -> None:
    async with patient.live(**ASKED, headers=STEPS) as live:
        await live.next()

        async def noted() -> bool:
            return bool((await patient.database.row(live.id))["upstream_id"])

        await eventually(noted)
        async with patient.database.outage():
            for _ in range(8):
                slow.clock.advance(60)
                assert await live.next() is not None
        slow.clock.advance(WHOLE)
        streamed = await live.rest()
    assert streamed.final["status"] == "completed"
    assert (await patient.events(live.id, headers=STEPS)).events == streamed.events
    for place in (1, 5, len(streamed.events) - 1):
        rest = await rest_of(patient, live.id, streamed.events[place - 1]["event_id"], STEPS, "query")
        assert rest == streamed.events[place:]
