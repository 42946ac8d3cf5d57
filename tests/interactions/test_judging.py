"""When a process that has begun takes others for dead."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from service.interactions.life import Life
from tests.support.store import open_store


def hold_up_the_loop() -> None:
    """Let nothing else happen in this process for a while."""
    time.sleep(1.7)


async def test_a_roll_call_that_was_held_up_begins_anew(postgres_url: str) -> None:
    loop = asyncio.get_running_loop()
    judges_at = loop.create_future()
    async with open_store(postgres_url) as opened, AsyncExitStack() as running:
        life = Life(opened.store.held, 60.0)
        life.on_judging = lambda: judges_at.set_result(loop.time())
        running.push_async_callback(life.end)
        await life.begin()
        await asyncio.sleep(0.3)
        hold_up_the_loop()
        # Nobody knows whether the database could be reached meanwhile.
        goes_on_at = loop.time()
        assert await judges_at > goes_on_at + 1.5
