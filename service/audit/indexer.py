"""The indexer: derives, behind the hot path, what lists, searches and reports are made from.

One process of those that share a database does it at a time, at the pace of :mod:`service.audit.pacing`. What it has
not come to is read from the interactions themselves, so what it is late with costs reports time, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from service.audit import filling_in
from service.audit.derivation import Derivation, Derived
from service.audit.dialect import Dialect
from service.audit.dialects import dialect_of
from service.audit.filling_in import FillingIn
from service.audit.gathering import AT_ONCE, MANY_AT_ONCE, Gathering, Row, is_late
from service.audit.pacing import Pacing
from service.audit.prices import Prices
from service.audit.splitting import Splitting
from service.errors import ServiceError
from service.store.backend import Backend, RowRefused, StoreUnavailable
from service.store.codec import Codec
from service.store.reports import Reports
from service.tasks import stop
from service.wire import ids

logger = logging.getLogger(__name__)

#: Seconds between two looks when nothing waits.
IDLE_SECONDS: Final = 0.5
#: Seconds until a process that is not the one to do it asks again.
_ELSEWHERE_SECONDS: Final = 10.0
_FAILED_SECONDS: Final = 2.0
#: How many times as long as a step of tidying takes the next one is put off.
_TIDY_RESTS: Final = 24.0
#: From how many seconds on what is late is caught up with in large batches, when nobody else is there.
_LATE_SECONDS: Final = 30.0
#: Interactions that are given further terms at a time, beside other work and when there is none.
_FILLED_IN_BESIDE: Final = 32
FILLED_IN_AT_ONCE: Final = 256
#: Seconds for which a process of the version before may go on after it was seen among the living.
AFTERLIFE_SECONDS: Final = 300.0
#: How often the words of deleted texts are looked after.
_TIDY_SECONDS: Final = 6 * 3_600.0
#: The pause between two looks for hours that are over.
_SPLIT_SECONDS: Final = 60.0
#: From how many seconds on what is late comes first: under a load that lasts, all is late for a minute.
_SPLIT_LATE_SECONDS: Final = 120.0
#: How many times as long as a step of that takes it rests: callers share the processor with it.
_SPLIT_RESTS: Final = 2.0


class Indexer:
    """Derives as long as it runs."""

    def __init__(
        self,
        backend: Backend,
        reports: Reports,
        packing: Codec,
        prices: Prices,
        *,
        idle: float = IDLE_SECONDS,
        filled_in_at_once: int = FILLED_IN_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._reports = reports
        self._gathering = Gathering(packing, prices)
        self._splitting = Splitting(backend, reports)
        self._idle = idle
        self._filled_in_at_once = filled_in_at_once
        self._clock = clock
        self._pacing = Pacing()
        #: For how many seconds what was worked on last has waited.
        self._late = 0.0
        #: Whether all have all their terms; nothing takes that back while a process lives.
        self._filled_in = False
        #: When a process that derives without them may last have been seen.
        self._accompanied_at = self._clock()
        #: What the last step has said, that of filling in with it.
        self._done: int | None = None
        self._tidied_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run(), name="indexer"),
            loop.create_task(self._split_hours(), name="splitting of hours"),
        ]

    async def close(self) -> None:
        """End; what is not derived yet waits for the next start."""
        await stop(*self._tasks)

    async def step(self) -> int | None:
        """Derive from one batch; from how many it was, or None while another process does it.

        Raises :class:`ServiceError` or :class:`StoreUnavailable` when the database cannot be used.
        """
        async with self._reports.reading() as reading:
            dialect = dialect_of(reading)
            # A large batch keeps callers waiting for the writer.
            many = self._pacing.alone and self._late >= _LATE_SECONDS
            most = MANY_AT_ONCE if many else AT_ONCE
            rows, bodies = await self._gathering.next(reading, most)
        if not rows:
            self._late = 0.0
            return 0
        self._late = _waited(rows)
        items = await asyncio.to_thread(self._gathering.derived, rows, bodies)
        try:
            return await self._backend.run(Derivation(dialect, items).script)
        except RowRefused:
            return await self._one_by_one(dialect, items)

    async def _one_by_one(self, dialect: Dialect, items: Sequence[Derived]) -> int:
        """The same where the database refuses something: it stops nothing else."""
        done = 0
        for item in items:
            for less in (item, replace(item, document=None), _bare(item)):
                try:
                    done += await self._backend.run(Derivation(dialect, [less]).script) or 0
                    break
                except RowRefused as error:
                    logger.error("%s cannot be derived from as a whole: %s", ids.to_text(item.id), error)
        return done

    async def fill_in(self) -> int | None:
        """Give some interactions of before the terms that they lack; from how many, or None as :meth:`step` does.

        Raises as that does.
        """
        if self._filled_in:
            return 0
        async with self._reports.reading() as reading:
            filling = FillingIn(dialect_of(reading))
            self._filled_in = await filling_in.is_done(reading)
            if not self._filled_in and await filling_in.must_wait(reading):
                self._accompanied_at = self._clock()
        if self._filled_in or self._clock() - self._accompanied_at < AFTERLIFE_SECONDS:
            return 0
        most = self._filled_in_at_once
        count = most if self._pacing.alone else min(most, _FILLED_IN_BESIDE)
        return await self._backend.run(filling.step(count))

    async def split(self, *, rests: float = 0.0) -> int | None:
        """Split an hour that is over; 0 when there is none, None as :meth:`step` does, and raises as that does.

        ``rests`` is how many times as long as it works it stops between whiles.
        """
        return await self._splitting.step(rests=rests)

    async def catch_up(self) -> None:
        """Derive until nothing waits, no terms are lacking and every hour that is over is split, as fast as it goes.

        Terms that came later are left as long as :meth:`fill_in` has to wait, and everything is left to another process
        that derives. Raises as :meth:`step` does.
        """
        while await self.step() or await self.fill_in() or await self.split():
            pass

    async def tidy(self) -> None:
        """Have the index of words forget those of deleted texts; raises as :meth:`step` does."""
        async with self._reports.reading() as reading:
            tidying = dialect_of(reading).tidying
        if tidying is None:
            return
        started = time.monotonic()
        while await self._backend.run(tidying):
            await asyncio.sleep(_TIDY_RESTS * (time.monotonic() - started))
            started = time.monotonic()

    async def _run(self) -> None:
        while True:
            started = time.monotonic()
            if await self._tried(self._derive):
                await self._rest(time.monotonic() - started)

    async def _derive(self) -> None:
        done = await self.step()
        if done is not None and self._late < _LATE_SECONDS:
            done = max(done, await self.fill_in() or 0)
        if done == 0 and time.monotonic() - self._tidied_at > _TIDY_SECONDS:
            self._tidied_at = time.monotonic()
            await self.tidy()
        self._done = done

    async def _split_hours(self) -> None:
        """Beside that: an hour of many interactions is gone through for a while, and there may always be new ones."""
        while True:
            await asyncio.sleep(self._idle)
            if self._may_split():
                await self._tried(self._split_due)

    def _may_split(self) -> bool:
        """Whether it is likely this process's to do, and little is still to come to hours that are over."""
        return self._done is not None and self._late < _SPLIT_LATE_SECONDS

    async def _split_due(self) -> None:
        while self._may_split() and await self.split(rests=_SPLIT_RESTS):
            pass
        await asyncio.sleep(_SPLIT_SECONDS)

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except (ServiceError, StoreUnavailable, RowRefused) as error:
            logger.warning("lists, searches and reports are not kept up now: %s", error)
        except Exception:
            logger.exception("the indexer failed in a way that was not foreseen")
        else:
            return True
        await asyncio.sleep(_FAILED_SECONDS)
        return False

    async def _rest(self, worked: float) -> None:
        if self._done is None:
            await asyncio.sleep(_ELSEWHERE_SECONDS)
        elif self._done == 0:
            await asyncio.sleep(self._idle)
            self._pacing.idle()
        else:
            await asyncio.sleep(self._pacing.rest(worked, self._late))
            self._pacing.rested()


def _waited(rows: Sequence[Row]) -> float:
    """For how many seconds the first to end of these has waited; usage that came after an end says nothing of that."""
    ends = [row["completed_at"] for row in rows if not is_late(row)]
    return max(0.0, time.time() - min(ends) / 1_000_000) if ends else 0.0


def _bare(item: Derived) -> Derived:
    """What is left where the database takes no figures of an interaction: that nothing waits any more."""
    return replace(item, document=None, measures=None, terms=frozenset(), cost_nanos=None, usage_detail=None)
