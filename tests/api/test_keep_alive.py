"""Silence on a stream is filled with comments, so that nobody on the way closes the connection."""

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
