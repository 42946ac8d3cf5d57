"""A cancel ends a running stream upstream and for all who listen, with what came of it until then."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from aiohttp import web

from service.store.records import USAGE_MISSING, USAGE_PARTIAL
from service.wire import ids
from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.replies import Json
from tests.support.upstreams import Emulated, Scripted, sse

#: More seconds than any stream takes.
WHOLE = 1e6
USED = {"total_tokens": 9, "total_input_tokens": 4, "total_output_tokens": 5}
WISH = "background;queued=60;running=6000"


@pytest.fixture
async def slow(start_emulator: StartEmulator) -> Emulated:
    """An emulator whose streams go on only when its clock is moved: one event a minute."""
    return await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)


@pytest.fixture
async def patient(slow: Emulated, start_gateway: StartGateway) -> Gateway:
    """The service before that emulator."""
    return await start_gateway(slow)


@pytest.mark.parametrize("background", [False, True])
async def test_a_cancelled_stream_ends_for_everybody_with_what_came(
    patient: Gateway, slow: Emulated, background: bool
) -> None:
    async with patient.live("Slowly", headers=STEPS, background=background, wish=WISH) as live:
        await live.next()
        slow.clock.advance(3000 if background else 500)
        text = await live.until("step.delta")
        while text["delta"]["type"] != "text":
            text = await live.until("step.delta")
        async with (
            patient.attached(live.id, headers=STEPS) as second,
            patient.attached(live.id, headers=LEGACY) as third,
        ):
            reading = slow.connections
            cancelled = await patient.cancel(live.id)
            told = await asyncio.gather(live.rest(), second.rest(), third.rest())
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
    assert told[0].events == told[1].events
    assert [streamed.final["status"] for streamed in told] == ["cancelled"] * 3
    assert told[0].text == told[2].text != ""
    stored = await patient.got(live.id, headers=STEPS)
    assert stored.body["status"] == "cancelled"
    assert stored.text == told[0].text
    created = cancelled.body["created"]
    for body in (cancelled.body, stored.body, *(streamed.final for streamed in told)):
        assert (body["object"], body["created"], body["model"]) == ("interaction", created, MODEL)
    row = await patient.database.row(live.id)
    # Upstream begins it a moment after the service has, which may be another second.
    assert abs(microseconds(created) - row["created_at"]) < 10_000_000
    assert (row["status"], row["completed_at"] is not None) == ("cancelled", True)
    assert len([seen for seen in slow.calls("POST") if seen["path"].endswith("/cancel")]) == background
    if not background:
        # Upstream has no other way to hear of it.
        assert len(reading) == 1
        await eventually(lambda: _are_closed(slow, reading))


def microseconds(created: str) -> int:
    """The moment that upstream writes as a time of whole seconds."""
    return int(datetime.fromisoformat(created).timestamp()) * 1_000_000


async def _are_closed(upstream: Emulated | Scripted, connections: set[object]) -> bool:
    return upstream.connections.isdisjoint(connections)


@pytest.mark.parametrize(
    "told",
    [
        {
            "event_type": "step.delta",
            "index": 0,
            "delta": {"type": "text", "text": "."},
            "metadata": {"total_usage": USED},
        },
        {"event_type": "step.stop", "index": 0, "usage": USED},
        {"event_type": "interaction.status_update", "status": "in_progress", "usage": USED},
        None,
    ],
    ids=["delta", "stop", "status", "nothing"],
)
@pytest.mark.parametrize("copied", [True, False])
async def test_a_cancelled_foreground_stream_keeps_the_usage_that_upstream_has_told(
    start_scripted: StartScripted, start_gateway: StartGateway, told: Json | None, copied: bool
) -> None:
    begun: list[Json] = [
        {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}},
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "So far"}},
        *([] if told is None else [told]),
        {"event_type": "interaction.status_update", "status": "in_progress"},
    ]
    over = asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and copied:
            # It does not know that nobody listens any more.
            return web.json_response({"id": "v1_a", "status": "in_progress", "usage": USED})
        if request.method == "GET":
            return web.json_response(
                {"error": {"code": "not_found", "message": "There is none."}}, status=404
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(*begun, done=False))
        await over.wait()
        return response

    upstream = await start_scripted(script)
    gateway = await start_gateway(upstream)
    async with gateway.live(headers=STEPS) as live, gateway.attached(live.id, headers=STEPS) as second:
        while len(live.events) < len(begun):
            await live.next()
        reading = upstream.connections
        cancelled = await gateway.cancel(live.id)
        streams = await asyncio.gather(live.rest(), second.rest())
        # Upstream is still in the middle of its stream: it was left.
        await eventually(lambda: _are_closed(upstream, reading))
    over.set()
    assert len(reading) == 1
    used = USED if copied or told is not None else None
    for streamed in streams:
        assert (streamed.final["status"], streamed.final.get("usage")) == ("cancelled", used)
    for reply in (cancelled, await gateway.got(live.id, headers=STEPS)):
        assert (reply.body["status"], reply.body.get("usage")) == ("cancelled", used)
        assert reply.text.startswith("So far")
    row = await gateway.database.row(live.id)
    state = (USAGE_MISSING, None, None, None) if used is None else (USAGE_PARTIAL, 9, 4, 5)
    members = ("usage_state", "total_tokens", "input_tokens", "output_tokens")
    assert tuple(row[name] for name in members) == state


async def test_the_usage_so_far_is_recorded(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    told: list[Json | bytes] = [
        {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}},
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "So far"}},
    ]
    # It shows finished steps only.
    ended = {"id": "v1_a", "status": "cancelled", "steps": [], "usage": {"total_tokens": 7}}
    over = asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/cancel"):
            return web.json_response(ended)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(*told, done=False))
        await over.wait()
        return response

    gateway = await start_gateway(await start_scripted(script))
    async with gateway.live(headers=STEPS, background=True) as live:
        await live.until("step.delta")
        assert (await gateway.cancel(live.id)).body["status"] == "cancelled"
        streamed = await live.rest()
    over.set()
    assert (streamed.text, streamed.final["usage"]) == ("So far", {"total_tokens": 7})
    stored = await gateway.got(streamed.id, headers=STEPS)
    assert (stored.text, stored.body["usage"]) == ("So far", {"total_tokens": 7})
    row = await gateway.database.row(streamed.id)
    assert (row["usage_state"], row["total_tokens"]) == (USAGE_PARTIAL, 7)


async def test_what_was_cancelled_cannot_be_cancelled_again(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly", headers=STEPS) as live:
        await live.next()
        await patient.cancel(live.id)
        streamed = await live.rest()
    assert streamed.final["status"] == "cancelled"
    again = await patient.cancel(live.id)
    assert (again.status, again.error["code"]) == (400, "failed_precondition")


async def test_two_cancels_at_once_end_it_once(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly", headers=STEPS, background=True, wish=WISH) as live:
        await live.next()
        slow.clock.advance(2000)
        await live.until("step.start")
        replies = await asyncio.gather(*(patient.cancel(live.id) for _ in range(3)))
        streamed = await live.rest()
    assert {reply.status for reply in replies} <= {200, 400}
    assert streamed.types.count("interaction.completed") == 1
    assert len([seen for seen in slow.calls("POST") if seen["path"].endswith("/cancel")]) == 1


async def test_a_stream_whose_client_has_left_is_cancelled_too(patient: Gateway, slow: Emulated) -> None:
    async with patient.live("Slowly", headers=STEPS) as live:
        await live.next()
        live.leave()

    async def noted() -> bool:
        return bool((await patient.database.row(live.id))["upstream_id"])

    await eventually(noted)
    assert (await patient.cancel(live.id)).body["status"] == "cancelled"
    assert (await patient.events(live.id, headers=STEPS)).final["status"] == "cancelled"


async def test_a_cancel_that_meets_the_end_ends_it_one_way_or_the_other(
    patient: Gateway, slow: Emulated
) -> None:
    async def meet(number: int) -> None:
        async with patient.live(f"Stream {number}", headers=STEPS) as live:
            await live.next()
            ready.put_nowait(number)
            await over.wait()
            # Some before the end has come, some while it comes.
            await asyncio.sleep(number / 1000)
            reply = await patient.cancel(live.id)
            streamed = await live.rest()
        status = streamed.final["status"]
        assert status in ("completed", "cancelled")
        assert reply.status == 200 or (reply.status == 400 and status == "completed")
        stored = await patient.got(live.id, headers=STEPS)
        assert (stored.body["status"], stored.text) == (status, streamed.text)
        assert (await patient.database.row(live.id))["status"] == status

    ready: asyncio.Queue[int] = asyncio.Queue()
    over = asyncio.Event()
    meeting = [asyncio.create_task(meet(number)) for number in range(24)]
    for _ in meeting:
        await ready.get()
    slow.clock.advance(WHOLE)
    over.set()
    await asyncio.gather(*meeting)


async def test_a_cancel_waits_for_upstream_to_answer_the_create(gateway: Gateway, upstream: Emulated) -> None:
    upstream.hold()
    creating = asyncio.create_task(
        gateway.stream("Hello", headers=STEPS, fault="trickle;bytes=32;seconds=0.05")
    )
    await eventually(lambda: _is_begun(gateway))
    (row,) = await gateway.database.rows()
    cancelling = asyncio.create_task(gateway.cancel(ids.to_text(row["id"])))
    done, _ = await asyncio.wait({cancelling}, timeout=0.5)
    assert not done
    upstream.release()
    reply, streamed = await cancelling, await creating
    assert reply.body["status"] == streamed.final["status"] == "cancelled"
    assert (await gateway.database.row(streamed.id))["status"] == "cancelled"
    assert len(upstream.creates) == 1


async def _is_begun(gateway: Gateway) -> bool:
    return bool(await gateway.database.rows())
