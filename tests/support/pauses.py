"""Pauses of tests that a slow machine or the end of an hour does not spoil."""

from __future__ import annotations

import asyncio
import time
from typing import Final

_STEPS: Final = 10


async def rest(seconds: float) -> None:
    """Sleep so long in short steps: whoever is due meanwhile runs, and whoever is due after that again."""
    for _ in range(_STEPS):
        await asyncio.sleep(seconds / _STEPS)


async def time_in_this_minute(seconds: float) -> None:
    """Wait for the next minute if this one has no more than so many seconds left."""
    await _time_left(60.0, seconds)


async def time_in_this_hour(seconds: float) -> None:
    """Wait for the next hour if this one has no more than so many seconds left."""
    await _time_left(3_600.0, seconds)


async def _time_left(period: float, seconds: float) -> None:
    left = period - time.time() % period
    if left < seconds:
        await asyncio.sleep(left)
