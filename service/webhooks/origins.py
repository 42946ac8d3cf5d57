"""Whose turn it is: few webhooks are tried at a time behind one origin, and fewer where it hardly answers.

Tries are what a process has a bounded number of, so receivers that hang must not take all of them.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

#: Seconds that is waited for a turn.
_TURN: Final = 1.0
#: Tries at a time behind an origin that is slow.
_WHILE_SLOW: Final = 2
#: Slow origins that are remembered.
_REMEMBERED: Final = 4_096


class _Turns:
    def __init__(self, most: int) -> None:
        self.free = asyncio.Semaphore(most)
        self.taken = 0


class Origins:
    """Grants at most ``most`` turns at a time behind each origin; one is slow whose last try took ``slow`` seconds."""

    def __init__(self, *, most: int, slow: float) -> None:
        self._most = most
        self._slow_after = slow
        self._turns: WeakValueDictionary[str, _Turns] = WeakValueDictionary()
        self._slow: dict[str, None] = {}

    def is_slow(self, uri: str) -> bool:
        """Whether the origin of this URI hardly answers."""
        return _origin(uri) in self._slow

    async def take(self, uri: str) -> Turn | None:
        """A turn behind the origin of this URI; None when there is none soon."""
        origin = _origin(uri)
        turns = self._turns.get(origin)
        if turns is None:
            turns = self._turns[origin] = _Turns(self._most)
        if origin in self._slow and turns.taken >= _WHILE_SLOW:
            return None
        try:
            async with asyncio.timeout(_TURN):
                await turns.free.acquire()
        except TimeoutError:
            return None
        turns.taken += 1
        return Turn(turns)

    def note(self, uri: str, seconds: float) -> None:
        """What a try took."""
        origin = _origin(uri)
        self._slow.pop(origin, None)
        if seconds >= self._slow_after:
            self._slow[origin] = None
            if len(self._slow) > _REMEMBERED:
                del self._slow[next(iter(self._slow))]


class Turn:
    """One try's turn; to be given back."""

    def __init__(self, turns: _Turns) -> None:
        self._turns = turns

    def end(self) -> None:
        """Give it back."""
        self._turns.taken -= 1
        self._turns.free.release()


def _origin(uri: str) -> str:
    return urlsplit(uri).netloc.lower()
