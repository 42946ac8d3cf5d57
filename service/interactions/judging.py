"""From when on this process takes those for dead that are silent: those that live must have had the time to say so.

After an outage of the database all have been silent, and those that live are about to say so. Who begins then cannot
tell them from the dead, so it calls the roll: whoever hears the call says at once that it lives, and whose lease is
still over when the database could be reached for :data:`_ROLL_CALL` seconds without a break is taken for dead. Whether
it could is told by who calls: each :data:`AGAIN` seconds it calls, and says that it lives itself. When that fails,
comes late or takes long, the time begins anew.

That does not hang on the call being heard. Who lives and could not reach the database says so every :data:`AGAIN`
seconds, whether the word before was refused or hangs, and has said it more than once by then if it can reach the
database as well as who calls. The call is for those that do not know that they seem silent: their last word was lost in
a fail-over, or the clock was set forward. Who may have missed a call, because the connection for hints broke, says that
it lives as soon as it has a new one. Taken for dead though it lives is only who cannot reach the database while who
calls can, or who seems silent without knowing it and misses the call in a connection that is dead and not found to be
so yet: it finds itself superseded, as one that was paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from service.store.held import Held

#: Seconds until what has failed, or hangs, is said again.
AGAIN: Final = 0.5
#: The hint that asks who lives, and the seconds that there are for an answer: a failure that has just been waited for,
#: one more try, and as long again for what is slow.
WHO_LIVES: Final = "who lives"
_ROLL_CALL: Final = 4 * AGAIN
#: Seconds after which a call comes so late, or has taken so long, that others may not have been able to answer
#: meanwhile.
_SLOW: Final = 2 * AGAIN


class Judging:
    """One per process, whose word that it lives ``renew`` says once; that may fail.

    ``wait`` is the seconds in which all that live have said so by themselves. ``on_called`` is called when those that
    are silent are taken for dead because the roll was called, or that time has passed meanwhile.
    """

    def __init__(
        self, held: Held, wait: float, renew: Callable[[], Awaitable[None]], on_called: Callable[[], None]
    ) -> None:
        self._held = held
        self._wait = wait
        self._renew = renew
        self._on_called = on_called
        self._loop = asyncio.get_running_loop()
        self._from = self._loop.time() + wait
        self._calling: asyncio.Task[None] | None = None
        #: Since when all could answer the roll call without a break.
        self._answerable_since: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether who is silent now is to be taken for dead."""
        return self._loop.time() >= self._from

    def begin(self, *, is_vouched_for: bool) -> None:
        """Judge at once where it is known that no outage has silenced those that live, and else as soon as may be."""
        self._from = self._loop.time() + (0 if is_vouched_for else self._wait)
        if not is_vouched_for and self._held.has_hints:
            self._calling = self._loop.create_task(self._call_the_roll(), name="roll call")

    def put_off(self) -> None:
        """All may seem silent now that live: they get the time to say so."""
        self._from = self._loop.time() + self._wait
        self._answerable_since = None

    async def end(self) -> None:
        """Call the roll no more."""
        if self._calling is not None:
            self._calling.cancel()
            with suppress(asyncio.CancelledError):
                await self._calling

    async def _call_the_roll(self) -> None:
        """Ask who lives until all could have answered for long enough, and judge then."""
        lasts = min(_ROLL_CALL, self._wait)
        due = self._loop.time()
        while due < self._from:
            asked = await self._ask_who_lives()
            moment = self._loop.time()
            if moment - due > _SLOW:
                self._answerable_since = None
            if asked and self._answerable_since is None:
                self._answerable_since = moment
            since = self._answerable_since
            left = AGAIN if since is None else since + lasts - moment
            if left <= 0:
                break
            due = moment + min(AGAIN, left)
            await asyncio.sleep(due - moment)
        self._from = min(self._from, self._loop.time())
        self._on_called()

    async def _ask_who_lives(self) -> bool:
        """Ask once; whether those who hear it can say that they live, as this process can."""
        try:
            asked = await self._held.hint(WHO_LIVES)
            await self._renew()
        except Exception:
            # The next beat tells of it as well.
            asked = False
        if not asked:
            self.put_off()
        return asked
