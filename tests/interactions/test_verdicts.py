"""What upstream does not end is given a verdict in its time, and what was received of it is kept (contract 8)."""

from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from service.settings import Settings
from service.store import records
from service.store.records import USAGE_PARTIAL, now
from tests.support.gateway import MODEL, STEPS, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.replies import Json
from tests.support.store import query
from tests.support.upstreams import Emulated, deployment, sse

HASTY: dict[str, Any] = {"poll_interval": 0.02, "poll_interval_max": 0.05, "claim_interval": 0.05}
#: Upstream is asked about runs by nobody but who has just taken them over.
POLLED = {"background_streams": 0, **HASTY}
HOUR = 3_600
UP: Json = {"id": "v1_up", "object": "interaction", "model": MODEL, "status": "in_progress"}
SAID: Json = {"type": "model_output", "content": [{"type": "text", "text": "So far"}]}


async def begun_before(gateway: Gateway, seconds: float) -> None:
    """All that is open was begun so long ago."""
    moment = now() - int(seconds * 1e6)
    await query(
        gateway.database.url, f"UPDATE interactions SET created_at = {moment} WHERE completed_at IS NULL"
    )


async def failed(gateway: Gateway, name: str, code: str) -> Json:
    """A run that was given a verdict, as it is read."""
    body: Json = (await gateway.finished(name)).body
    assert (body["status"], body["errors"][0]["code"]) == ("failed", code)
    row = await gateway.database.row(name)
    assert (row["status"], row["error_code"]) == ("failed", code)
    return body


async def test_the_events_of_a_zombie_stay_as_its_steps(
    start_gateway: StartGateway, start_emulator: StartEmulator
) -> None:
    upstream = await start_emulator(stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream, background_timeout=3.0, **HASTY)
    wish = "background;queued=0;running=6000"
    async with gateway.live("Work", headers=STEPS, background=True, wish=wish) as live:
        upstream.clock.advance(3000)
        streamed = await live.rest()
    assert streamed.events[-1]["error"]["code"] == "deadline_exceeded"
    assert streamed.text
    body = await failed(gateway, live.id, "deadline_exceeded")
    assert "".join(part["text"] for part in _output(body)["content"]) == streamed.text


def _output(body: Json) -> Json:
    (output,) = (step for step in body["steps"] if step["type"] == "model_output")
    found: Json = output
    return found


async def test_what_a_run_had_told_and_used_before_it_was_given_up_is_kept_and_marked(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    told = {**UP, "steps": [SAID], "usage": {"total_tokens": 7, "total_input_tokens": 7}}

    async def script(request: web.Request) -> web.StreamResponse:
        return web.json_response(UP if request.method == "POST" else told)

    gateway = await start_gateway(await start_scripted(script), background_timeout=0.3, **POLLED)
    made = await gateway.ask(background=True)
    body = await failed(gateway, made.id, "deadline_exceeded")
    assert (body["steps"], body["usage"]) == ([SAID], told["usage"])
    row = await gateway.database.row(made.id)
    assert (row["usage_state"], row["input_tokens"], row["total_tokens"]) == (USAGE_PARTIAL, 7, 7)


async def test_what_a_stream_had_told_and_used_before_upstream_lost_it_is_kept_and_marked(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    usage = {"total_tokens": 7, "total_input_tokens": 7}
    created = {"event_type": "interaction.created", "interaction": UP}
    start = {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}}
    delta = {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "So far"}}
    stop = {"event_type": "step.stop", "index": 0, "usage": usage}

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"error": {"code": "not_found", "message": "Lost."}}, status=404)
        body = sse(created, start, delta, stop, done=False)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        request.transport.close()
        return response

    gateway = await start_gateway(await start_scripted(script), **HASTY)
    streamed = await gateway.stream(headers=STEPS)
    assert streamed.broken
    body = await failed(gateway, streamed.id, "bad_gateway")
    assert (_output(body)["content"], body["usage"]) == (SAID["content"], usage)
    row = await gateway.database.row(streamed.id)
    assert (row["usage_state"], row["total_tokens"]) == (USAGE_PARTIAL, 7)


async def test_a_run_has_two_hours_unless_its_deployment_says_otherwise(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    assert Settings().background_timeout == 2 * HOUR
    entries = (
        deployment(upstream, "usual", MODEL),
        deployment(upstream, "longer", MODEL, background_timeout=5 * HOUR),
        deployment(upstream, "shorter", MODEL, background_timeout=HOUR),
    )
    gateway = await start_gateway(deployments=entries, **POLLED)
    made = {
        entry.model_name: await gateway.ask(model=entry.model_name, background=True, wish="zombie")
        for entry in entries
    }

    async def given_up(hours: float) -> set[str]:
        """Who is given up by a process that finds these runs so long after their begin."""
        nonlocal gateway
        await gateway.stop()
        await begun_before(gateway, hours * HOUR)
        upstream.clear()
        gateway = await start_gateway(deployments=entries, **POLLED)

        async def all_were_judged() -> bool:
            asked = Counter(seen["path"].rpartition("/")[2] for seen in upstream.calls("GET"))
            for reply in made.values():
                # Who is given up is asked about only once more.
                if (
                    asked[reply.upstream_id] < 2
                    and not (await gateway.database.row(reply.id))["completed_at"]
                ):
                    return False
            return True

        await eventually(all_were_judged)
        rows = {name: await gateway.database.row(reply.id) for name, reply in made.items()}
        return {name for name, row in rows.items() if row["error_code"] == "deadline_exceeded"}

    assert await given_up(0.9) == set()
    assert await given_up(1.9) == {"shorter"}
    assert await given_up(2.1) == {"shorter", "usual"}
    assert await given_up(5.1) == {"shorter", "usual", "longer"}


def set_clock(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """Whoever looks at the clock from now on is told another hour."""
    shift = int(hours * HOUR * 1e9)
    monkeypatch.setattr(records, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + shift))


@pytest.mark.parametrize("streams", [256, 0], ids=["attached", "polled"])
async def test_a_clock_that_is_set_on_ends_no_run(
    start_gateway: StartGateway, upstream: Emulated, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    gateway = await start_gateway(upstream, **{**HASTY, "background_streams": streams})
    made = await gateway.ask(background=True, wish="background;queued=3600;running=3600")
    set_clock(monkeypatch, 5)
    upstream.clear()

    async def was_asked_about() -> bool:
        return len(upstream.calls("GET")) > (0 if streams else 2)

    await eventually(was_asked_about)
    assert not (await gateway.database.row(made.id))["completed_at"]
    upstream.clock.advance(9_000)
    assert (await gateway.finished(made.id)).body["status"] == "completed"


@pytest.mark.parametrize("streams", [256, 0], ids=["attached", "polled"])
async def test_a_clock_that_is_set_back_prolongs_no_run(
    start_gateway: StartGateway, upstream: Emulated, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    gateway = await start_gateway(
        upstream, background_timeout=0.4, **{**HASTY, "background_streams": streams}
    )
    made = await gateway.ask(background=True, wish="zombie")
    set_clock(monkeypatch, -5)
    await failed(gateway, made.id, "deadline_exceeded")


async def test_a_run_whose_deployment_is_not_configured_any_more_is_shown_until_its_time_is_over(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(deployments=(deployment(upstream, "old", MODEL),), **POLLED)
    made = await gateway.ask(model="old", background=True, wish="zombie")
    await gateway.stop()
    upstream.clear()
    entries = (deployment(upstream, "new", MODEL),)
    gateway = await start_gateway(deployments=entries, **POLLED)
    assert (await gateway.got(made.id)).body["status"] == made.body["status"]
    cancelled = await gateway.cancel(made.id)
    assert (cancelled.status, cancelled.error["code"]) == (400, "failed_precondition")
    await gateway.stop()
    months = 60 * 86_400_000_000 + 1_000_000
    await query(gateway.database.url, f"UPDATE interactions SET created_at = created_at - {months}")
    gateway = await start_gateway(deployments=entries, background_timeout=0.01, **POLLED)
    body = await failed(gateway, made.id, "deadline_exceeded")
    assert body["id"] == made.id
    assert upstream.requests == []


@pytest.mark.parametrize("streams", [256, 0], ids=["attached", "polled"])
async def test_what_upstream_cancels_by_itself_is_cancelled(
    start_gateway: StartGateway, start_scripted: StartScripted, streams: int
) -> None:
    usage = {"total_tokens": 7, "total_input_tokens": 7}
    whole = {**UP, "status": "cancelled", "steps": [SAID], "usage": usage}
    cancelled = {"event_type": "interaction.completed", "interaction": whole}

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response(UP)
        if "stream" in request.query:
            body = sse({"event_type": "interaction.created", "interaction": UP}, cancelled)
            return web.Response(body=body, content_type="text/event-stream")
        return web.json_response(whole)

    gateway = await start_gateway(await start_scripted(script), **{**HASTY, "background_streams": streams})
    made = await gateway.ask(background=True)
    body = (await gateway.finished(made.id)).body
    assert (body["status"], body["steps"], body["usage"]) == ("cancelled", [SAID], usage)
    row = await gateway.database.row(made.id)
    assert (row["status"], row["usage_state"], row["total_tokens"]) == ("cancelled", USAGE_PARTIAL, 7)
