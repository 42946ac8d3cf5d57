"""Nobody on the way to the client holds a stream back, or closes it because it is silent."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tests.support.gateway import LEGACY, STEPS, Gateway
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.replies import Json
from tests.support.upstreams import Emulated, sse

#: Seconds of silence until a comment.
OFTEN = 0.05
COMMENT = b": keep-alive\n\n"
CREATED: Json = {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}}
CALL: Json = {
    "event_type": "step.start",
    "index": 0,
    "step": {"type": "function_call", "id": "c", "name": "f", "arguments": {}},
}
FRAGMENT: Json = {
    "event_type": "step.delta",
    "index": 0,
    "delta": {"type": "arguments_delta", "arguments": " "},
}
ENDING: list[Json] = [
    {**FRAGMENT, "delta": {"type": "arguments_delta", "arguments": '{"a": 1}'}},
    {"event_type": "step.stop", "index": 0},
    {"event_type": "interaction.completed", "interaction": {"id": "v1_a", "status": "completed"}},
]


@pytest.fixture
async def slow(start_emulator: StartEmulator) -> Emulated:
    """An emulator whose streams go on only when its clock is moved: one event an hour."""
    return await start_emulator(token_delay=3600.0, stream_limit_seconds=1e9)


@pytest.mark.parametrize("headers", [STEPS, LEGACY], ids=["steps", "legacy"])
async def test_a_silent_stream_is_kept_alive_by_comments(
    slow: Emulated, start_gateway: StartGateway, headers: dict[str, str]
) -> None:
    gateway = await start_gateway(slow, keep_alive_interval=OFTEN)
    async with (
        gateway.live("Slowly", headers=headers) as live,
        gateway.attached(live.id, headers=headers) as second,
    ):
        for listener in (live, second):
            await listener.until("interaction.status_update")
            for _ in range(3):
                assert (await listener.comments()).replace(COMMENT, b"") == b""
        slow.clock.advance(1e6)
        for listener in (live, second):
            streamed = await listener.rest()
            assert streamed.final["status"] == "completed"
            # Python SDKs up to 2.8 fail at a comment behind a block that has one (contract 4.8).
            assert not streamed.raw.startswith(b"id:")
            assert b"\nid:" not in streamed.raw


async def test_every_piece_is_sent_at_once(slow: Emulated, start_gateway: StartGateway) -> None:
    """Nothing waits for what comes after it: TCP_NODELAY, without which a stream is 40 ms late."""
    gateway = await start_gateway(slow)
    async with gateway.live("Slowly") as live, gateway.attached(live.id) as second:
        delays = gateway.tcp_delays()
        slow.clock.advance(1e6)
        for listener in (live, second):
            await listener.rest()
    assert delays == [False, False]


async def test_a_stream_is_neither_compressed_nor_held_back(gateway: Gateway) -> None:
    asked = {"accept-encoding": "gzip, deflate, br"}
    streamed = await gateway.stream("Hello", headers=asked)
    again = await gateway.events(streamed.id, headers=asked)
    for told in (streamed, again):
        assert told.headers["content-type"] == "text/event-stream"
        assert told.headers["cache-control"] == "no-cache, no-transform"
        assert told.headers["x-accel-buffering"] == "no"
        assert told.headers["transfer-encoding"] == "chunked"
        assert told.headers["x-interaction-id"] == streamed.id
        assert "content-encoding" not in told.headers
        assert "content-length" not in told.headers


@pytest.mark.parametrize("attached", [False, True], ids=["the_same_process", "another_process"])
async def test_a_stream_whose_events_tell_nothing_yet_is_kept_alive(
    start_scripted: StartScripted, start_gateway: StartGateway, attached: bool
) -> None:
    """Arguments of a function call are told to a legacy client when they are whole."""
    go = asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(CREATED, CALL, done=False))
        while not go.is_set():
            await response.write(sse(FRAGMENT, done=False))
            await asyncio.sleep(OFTEN / 5)
        await response.write(sse(*ENDING))
        return response

    upstream = await start_scripted(script)
    gateway = await start_gateway(upstream, keep_alive_interval=OFTEN)
    async with gateway.live("Hello", headers=LEGACY) as live:
        other = await start_gateway(upstream, keep_alive_interval=OFTEN) if attached else gateway
        async with other.attached(live.id, headers=LEGACY) as listener:
            await listener.until("content.start")
            for _ in range(3):
                assert (await listener.comments()).replace(COMMENT, b"") == b""
            go.set()
            assert (await listener.rest()).done
