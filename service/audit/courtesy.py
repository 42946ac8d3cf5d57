"""Who reads much rests beside callers who write: a process has one interpreter, and their requests come first.

Readers of one process take turns (:class:`Courtesy`); one that reads for long, in a process of its own, makes pauses
(:class:`Spells`). How the indexer makes way is another matter (:mod:`service.audit.pacing`): it has no caller, and can
be late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

#: Writes a second from which callers are many.
_MANY: Final = 20.0
#: How many times as long as it has worked a reader rests for beside many, and at most how many seconds.
RESTS: Final = 5.0
_LONGEST_REST: Final = 0.9
#: Seconds that one who reads for long works at a stretch beside many, how many times as long it rests then, and for at
#: most how many seconds of work.
_SPELL: Final = 0.25
_RESTS_OF_SPELLS: Final = 2.0
_LONGEST_SPELL: Final = 0.5
#: Seconds between two looks at how many write, and after which the last look says nothing any more.
_LOOK: Final = 0.25
_FORGOTTEN: Final = 2.0
#: Seconds after which a reader goes on whoever writes: longer than anybody rests.
_PATIENCE: Final = 1.0


class Courtesy:
    """Of the readers of one process: beside many who write they take turns, with a rest after each.

    ``written`` tells how many writes callers have waited for so far. A reader waits ``patience`` seconds at most.
    """

    def __init__(self, written: Callable[[], int], *, patience: float = _PATIENCE) -> None:
        self._written = written
        self._patience = patience
        self._turn = asyncio.Lock()
        self._many = False
        self._before = written()
        self._looked_at = monotonic()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Work within this; whoever comes next rests for it, so that one reader by itself waits for nothing."""
        if not (self._are_many() and await self._taken()):
            yield
            return
        began = monotonic()
        try:
            yield
        finally:
            rest = min(RESTS * (monotonic() - began), _LONGEST_REST)
            asyncio.get_running_loop().call_later(rest, self._turn.release)

    async def _taken(self) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                return await self._turn.acquire()
        except TimeoutError:
            return False

    def _are_many(self) -> bool:
        moment = monotonic()
        passed = moment - self._looked_at
        if passed >= _LOOK:
            written = self._written()
            self._many = passed < _FORGOTTEN and written - self._before >= _MANY * passed
            self._before, self._looked_at = written, moment
        return self._many


class Spells:
    """Of one who reads for long: the processors are its own while nobody else needs them.

    ``written`` tells how many writes callers have waited for so far.
    """

    def __init__(self, written: Callable[[], int]) -> None:
        self._written = written
        self.rested()

    def rest(self) -> float:
        """The seconds to rest now."""
        worked = monotonic() - self._since
        if worked < _SPELL:
            return 0.0
        if self._written() - self._before < _MANY * worked:
            self.rested()
            return 0.0
        return _RESTS_OF_SPELLS * min(worked, _LONGEST_SPELL)

    def rested(self) -> None:
        """The rest is over."""
        self._since = monotonic()
        self._before = self._written()
