"""The life of this process on its database: it is alive as long as it says so again and again.

Everything that it holds hangs on that one word. When it comes too late, because the process was paused or the database
could not be reached, others may have taken over what was held here: that is looked after before anything else is done.

All times are by the database's clock, so that nobody's own counts. It may be set as well. Forward, it makes everybody
seem silent at once: who sees that takes nobody for dead until all have had the time to say that they live. Backward, it
makes the dead seem alive: nobody is believed to live for longer than some leases.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from service.errors import ServiceError, ServiceUnavailable
from service.interactions.insisting import Insisting
from service.interactions.judging import AGAIN, WHO_LIVES, Judging
from service.store.backend import MISSED
from service.store.held import Held
from service.tasks import stop
from service.wire import ids

logger = logging.getLogger(__name__)

#: The share of a lease after which it is renewed, and of it that may pass before new work waits for that.
_RENEW: Final = 1 / 4
_SURE: Final = 2 / 3
#: The share after which a renewal is late. Who was renewed longest before this process is, with what :data:`_RENEW` and
#: :data:`~service.interactions.judging.AGAIN` add, still not silent for a whole lease then.
_LATE: Final = 3 / 5
#: Microseconds by which others that begin in the same moment may be later.
_LEEWAY: Final = 1_000_000
#: Renewals that may hang at once.
_AT_ONCE: Final = 5
#: Seconds for which work waits for a renewal.
_PATIENCE: Final = 10.0
#: Leases of this process that another one's may last; what says more is from before the clock was set back.
_LONGEST: Final = 10
_SECOND: Final = 1_000_000
#: Seconds between two warnings about one thing that goes on.
_WARN: Final = 10.0


class Life:
    """One per process. ``lease`` is how many seconds it may be silent before others take over."""

    def __init__(self, held: Held, lease: float) -> None:
        self.id = ids.mint()
        #: Called after this process was silent for too long.
        self.on_late: Callable[[], Awaitable[None]] | None = None
        #: Called when those that are silent are taken for dead after a roll call.
        self.on_judging: Callable[[], None] | None = None
        #: The interactions that are being created here, and are not yet to be followed.
        self.working: set[bytes] = set()
        self._held = held
        self._lease = lease
        self._loop = asyncio.get_running_loop()
        self._renewed = self._loop.time()
        self._judging = Judging(held, lease * _SURE, self._renew, self._vouch)
        #: What the database's clock said last, and when that was by the loop's.
        self._told = 0
        self._told_at = self._renewed
        self._renewing: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        #: How often something was found after which it is to be looked what this process has lost, and who does that.
        self._upsets = 0
        self._looking: asyncio.Task[None] | None = None
        self._has_looked = asyncio.Event()
        self._has_looked.set()
        #: Before that, what goes wrong is not told of again.
        self._warn_from = self._renewed
        #: Somebody wants to know whether this process lives.
        self._asked = asyncio.Event()
        self._pause = min(AGAIN, lease * _RENEW)
        most, fewer = (_AT_ONCE, 2) if held.has_hints else (1, 1)
        self._saying = Insisting(self._say, pause=self._pause, most=most)
        self._listing = Insisting(self._list, pause=self._pause, most=fewer)

    @property
    def clock(self) -> int:
        """The time, in microseconds since the epoch: as the database told it last, and no later than it is there."""
        return self._told + int((self._loop.time() - self._told_at) * _SECOND)

    @property
    def silent_since(self) -> int:
        """Since when, in microseconds since the epoch, those have been silent who are to be taken for dead now.

        After an outage of the database all are silent for a while. So who was silent itself a moment ago, or is just
        then, takes only those for dead that have ended: 0. The same holds for who has just begun, unless it is alone or
        another one judges, which has not been silent, or until it has called the roll.
        """
        return self.clock if self._judges else 0

    @property
    def _judges(self) -> bool:
        is_late = self._loop.time() - self._renewed > self._lease * _LATE
        return not is_late and self._judging.has_begun and self._has_looked.is_set()

    async def begin(self) -> None:
        """Be alive; raises :class:`~service.errors.ServiceUnavailable`."""
        began = self._loop.time()
        self._set_clock(await self._held.clock())
        await self._held.enter(self.id, self._until())
        alone_since = self._held.alone_since
        if alone_since is not None:
            # Others may have begun meanwhile, and live.
            await self._held.expire_earlier(alone_since, self._until() + _LEEWAY)
        else:
            await self._held.shorten(self._longest())
        # Who judges is silent for no longer than that; what it said last was before an outage otherwise.
        spare = int(self._lease * (1 - _LATE) * _SECOND)
        is_vouched_for = alone_since is not None or await self._held.others_judge(self.id, spare)
        # That it lives counts from the time that was told before, however long the rest has taken.
        self._renewed = began
        self._beating = self._loop.create_task(self._beat(), name="heartbeat")
        self._held.on_hint(self._hear)
        self._judging.begin(is_vouched_for=is_vouched_for)

    @property
    def is_sure(self) -> bool:
        """Whether this process is certainly alive, as far as it knows."""
        return self._is_renewed and self._has_looked.is_set()

    @property
    def _is_renewed(self) -> bool:
        return self._loop.time() - self._renewed <= self._lease * _SURE

    async def sure(self) -> None:
        """Return when this process is certainly alive; raises :class:`~service.errors.ServiceUnavailable`."""
        if not self.is_sure:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._become_sure()
            except TimeoutError as error:
                raise ServiceUnavailable("The store does not answer now.", retry_after=1) from error

    async def held(self) -> set[bytes]:
        """The open interactions of this process; raises :class:`~service.errors.ServiceUnavailable`.

        Asked for again while nothing answers.
        """
        held, _ = await self._listing.answer()
        return held

    async def end(self) -> None:
        """Give up what is still held, so that others may have it at once; never raises."""
        await self._judging.end()
        if self._beating is not None:
            await stop(self._beating)
        if (renewing := self._renewing) is not None:
            # It would bring this process back to life.
            await asyncio.wait((renewing,), timeout=_PATIENCE)
            renewing.cancel()
        if (looking := self._looking) is not None:
            looking.cancel()
            await asyncio.wait((looking,), timeout=_PATIENCE)
        await self._saying.close()
        await self._listing.close()
        try:
            if count := await self._held.leave(self.id):
                logger.info("%d open interactions are handed back", count)
        except ServiceError as error:
            logger.warning("open interactions could not be handed back; others wait for the lease: %s", error)

    def _set_clock(self, told: int) -> None:
        self._told, self._told_at = told, self._loop.time()

    def _until(self) -> int:
        return self.clock + int(self._lease * _SECOND)

    def _longest(self) -> int:
        return self.clock + int(self._lease * _LONGEST * _SECOND)

    async def _beat(self) -> None:
        pause = usual = self._lease * _RENEW
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._asked.wait()
            self._asked.clear()
            pause = usual
            try:
                await self._renew()
            except ServiceError as error:
                self._warn(f"the lease of this process could not be renewed: {error}")
                pause = self._pause
            except Exception:
                logger.exception(
                    "the lease of this process could not be renewed in a way that was not foreseen"
                )
                pause = self._pause

    def _hear(self, topic: str) -> None:
        if topic in (WHO_LIVES, MISSED):
            self._asked.set()

    def _vouch(self) -> None:
        """From now on this process vouches for the death of others, and says so at once."""
        self._asked.set()
        if self.on_judging is not None:
            self.on_judging()

    async def _say(self, others_hang: bool) -> int:
        """Say once that this process lives; what the time is then."""
        lease = int(self._lease * _SECOND)
        vouches_until = self.clock + int(lease * _RENEW) if self._judges else 0
        told = await self._held.beat(self.id, lease, vouches_until=vouches_until, apart=others_hang)
        if told is None:
            told = await self._held.enter_again(self.id, lease, apart=others_hang)
        if told is None:
            raise ServiceUnavailable("This process has ended.", retry_after=1)
        return told

    async def _list(self, others_hang: bool) -> set[bytes]:
        return await self._held.held(self.id, apart=others_hang)

    async def _become_sure(self) -> None:
        while not self.is_sure:
            if self._is_renewed:
                await self._has_looked.wait()
            else:
                await self._renew()

    async def _renew(self) -> None:
        """Renew once for all who wait for it."""
        if self._renewing is None or self._renewing.done():
            self._renewing = self._loop.create_task(self._renew_now(), name="renewal")
            self._renewing.add_done_callback(self._renewal_ended)
        await asyncio.shield(self._renewing)

    def _renewal_ended(self, task: asyncio.Task[None]) -> None:
        if self._renewing is task:
            self._renewing = None
        if not task.cancelled():
            # Whoever waits gets it as well.
            task.exception()

    async def _renew_now(self) -> None:
        warning = self._loop.create_task(self._warn_while_hanging(), name="warning")
        try:
            told, began = await self._saying.answer()
        finally:
            warning.cancel()
        # A machine that slept has not counted that, and others have; so it is when the database's clock is set forward.
        silence = max(self._loop.time() - self._renewed, (told - self._told) / _SECOND)
        was_set_back = (self.clock - told) / _SECOND > self._lease
        self._set_clock(told)
        self._renewed = began
        if silence > self._lease * _LATE:
            self._judging.put_off()
            # What was just said may have been that this process judges.
            self._asked.set()
        if silence > self._lease:
            logger.warning("this process was silent for %.1f s, longer than its lease", silence)
        if silence > self._lease or was_set_back:
            self._look_again()

    async def _warn_while_hanging(self) -> None:
        began, pause = self._loop.time(), self._lease * _RENEW
        while True:
            await asyncio.sleep(pause)
            self._warn(
                f"the database has not answered for {self._loop.time() - began:.1f} s that this process lives"
            )
            pause = _WARN

    def _warn(self, message: str) -> None:
        moment = self._loop.time()
        if moment >= self._warn_from:
            self._warn_from = moment + _WARN
            logger.warning("%s", message)

    def _look_again(self) -> None:
        self._upsets += 1
        self._has_looked.clear()
        if self._looking is None or self._looking.done():
            self._looking = self._loop.create_task(self._look(), name="look what was lost")

    async def _look(self) -> None:
        """Look what others have taken over, as often as it takes; this process goes on saying that it lives."""
        seen = 0
        while seen != self._upsets:
            seen = self._upsets
            try:
                await self._held.shorten(self._longest(), apart=True)
                if self.on_late is not None:
                    await self.on_late()
            except ServiceError as error:
                seen = 0
                self._warn(f"it cannot be looked what this process has lost while it was silent: {error}")
                await asyncio.sleep(self._pause)
            except Exception:
                seen = 0
                logger.exception("what this process has lost while it was silent could not be looked for")
                await asyncio.sleep(self._pause)
        self._has_looked.set()
