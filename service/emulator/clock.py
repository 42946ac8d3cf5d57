"""The emulator's time: the wall clock plus an offset that tests may increase.

Retention, background runs and the cut of long streams are functions of this clock, so a test reaches day 56
by one call to `advance` instead of by waiting.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache


class Clock:
    """A clock that runs by itself and can be moved forward."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._changed = asyncio.Event()

    def now(self) -> float:
        """Seconds since the epoch, as the emulator sees them."""
        return time.time() + self._offset

    def advance(self, seconds: float) -> float:
        """Move time forward and wake everyone who waits for it; returns the new time.

        Raises ValueError when `seconds` is negative: nothing in the emulator can be undone.
        """
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._offset += seconds
        self.wake()
        return self.now()

    def wake(self) -> None:
        """Let everyone who waits look again, because something other than time has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, until: float) -> bool:
        """Wait until `until`, the next `advance` or the next `wake`; True when `until` has come."""
        remaining = until - self.now()
        if remaining <= 0:
            return True
        try:
            async with asyncio.timeout(remaining):
                await self._changed.wait()
        except TimeoutError:
            return True
        return self.now() >= until


def timestamp(seconds: float) -> str:
    """ISO 8601 with second precision and `Z`, as upstream writes `created` and `updated` (contract 3.3)."""
    return _timestamp(int(seconds))


@lru_cache(maxsize=1024)
def _timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
