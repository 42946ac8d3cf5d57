"""Nobody on the way to the client holds a stream back, or closes it because it is silent."""

from __future__ import annotations

from tests.support.gateway import Gateway
from tests.support.gateways import StartEmulator, StartGateway


async def test_a_silent_stream_is_kept_alive_by_comments(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=3600.0, stream_limit_seconds=1e9)
    gateway: Gateway = await start_gateway(upstream)
    async with gateway.live("Slowly") as live:
        await live.until("interaction.status_update")
        assert await live.comment() == b": keep-alive\n\n"
        upstream.clock.advance(1e6)
        streamed = await live.rest()
    assert streamed.final["status"] == "completed"
    assert b"\nid:" not in streamed.raw


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
