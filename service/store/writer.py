"""The group-commit writer: what many callers hand in at once is made durable by one transaction.

``await writer.put(...)`` returns when the transaction that holds the writes is committed. A batch waits for no timer:
whatever is queued when the last transaction ends is the next one, so one caller pays one commit and a thousand share
one. A batch that the database refuses is split until the refused row stands alone; the others are written. While the
database cannot be written, smaller batches are tried again and again. Patience ends a caller's wait and not the
write: new work is then forgotten, but what has happened is kept until it is written or the process ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final

from service.errors import ServiceError, ServiceUnavailable, StoreError, Superseded
from service.store.backend import Backend, Batch, Row, RowRefused, StoreUnavailable, committed
from service.store.entries import Entries, Entry, Taken, Write, measured
from service.store.statements import BATCH_ORDER

logger = logging.getLogger(__name__)

#: Turns of the event loop that a batch may grow in.
_TURNS: Final = 6
_BATCH_ENTRIES: Final = 256
#: Entries that are being written beside which more are written at once: a batch that has more soon has company enough.
_LITTLE: Final = 8
_BATCH_BYTES: Final = 32 * 1024 * 1024
#: Bytes held from which new work is shed.
_BYTE_LIMIT: Final = 256 * 1024 * 1024
_RETRY_PAUSES: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
#: Seconds between two looks for callers whose patience has ended: one timer for all of them.
_LOOK: Final = 0.25
#: Seconds that what is queued gets to be written when the process stops.
_LAST_EFFORT: Final = 10.0
_STATEMENTS: Final = {statement.name: statement for statement in BATCH_ORDER}
_PLACES: Final = {name: place for place, name in enumerate(_STATEMENTS)}


class NotQueued(ServiceUnavailable):
    """The store takes no more work now; nothing of this was taken in."""


@dataclass(slots=True)
class WriterStatistics:
    """Counters since the start of the process."""

    batches: int = 0
    entries: int = 0
    refused: int = 0
    retries: int = 0
    shed: int = 0


class Writer:
    """One per process; owns the order of all writes.

    ``limit`` is the number of queued entries, ``byte_limit`` the number of bytes, from which new work is shed with 503.
    """

    def __init__(self, backend: Backend, *, limit: int, byte_limit: int = _BYTE_LIMIT) -> None:
        self._backend = backend
        self._entries = Entries(limit, byte_limit)
        #: Batches that are gathered, written, or about to be tried again.
        self._lanes = 0
        self._splitting: set[asyncio.Task[bool]] = set()
        self._none_open: asyncio.Future[None] | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._given_up = False
        self._gathering = False
        self._looking: asyncio.TimerHandle | None = None
        self._look_due_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._failures = 0
        self._most = _BATCH_ENTRIES
        self._answered_at = 0.0
        self.statistics = WriterStatistics()

    @property
    def depth(self) -> int:
        """Entries that wait for their transaction."""
        return len(self._entries)

    @property
    def stalled_for(self) -> float:
        """Seconds since the database took or refused a batch, if there is anything to write."""
        return monotonic() - self._answered_at if self._entries.busy else 0.0

    async def put(self, *writes: Write, patience: float, shed: bool = False, last: bool = False) -> None:
        """Commit these writes as one unit; with ``last`` only when all that were handed in before are written.

        ``patience`` is how many seconds the caller waits; the writes go on without it. With ``shed`` they are new work:
        refused at once when the queue is full, and forgotten when patience ends, so trying again is safe and
        ``retry_after`` says so. Raises :class:`NotQueued` when shed or stopping, another :class:`ServiceUnavailable`
        when out of patience, :class:`StoreError` when the database refuses what a row holds, or has no such
        interaction, and :class:`Superseded` when another process holds it.
        """
        await self.hand_in(*writes, patience=patience, shed=shed, last=last)

    def hand_in(
        self, *writes: Write, patience: float, shed: bool = False, last: bool = False
    ) -> asyncio.Future[None]:
        """The same at once, without waiting: what is given has the end that :meth:`put` waits for.

        Every create waits twice, and a coroutine that only waits for another is woken with it each time.
        """
        if self._closed:
            raise NotQueued("The service is stopping.", retry_after=1 if shed else None)
        if not self._entries.fits(new_work=shed):
            self.statistics.shed += 1
            raise NotQueued(
                "The store has more work queued than it can take.", retry_after=1 if shed else None
            )
        moment = monotonic()
        done = self._loop.create_future()
        keys, size = measured(writes)
        self._entries.add(Entry(writes, keys, size, moment + patience, shed, done, last))
        if not self._lanes:
            self._answered_at = moment
        if not self._gathering and self._lanes < self._backend.most_at_once:
            self._open_lane()
        if self._looking is None:
            self._look_again()
        return done

    async def close(self, patience: float = _LAST_EFFORT) -> None:
        """Take no more work and commit what is queued; after ``patience`` seconds, what is left is lost."""
        self._closed = True
        if self._lanes:
            self._none_open = self._loop.create_future()
            await asyncio.wait((self._none_open,), timeout=patience)
        self._given_up = True
        if self._pause is not None:
            self._pause.cancel()
        splitting = list(self._splitting)
        for task in splitting:
            task.cancel()
        await asyncio.gather(*splitting, return_exceptions=True)
        lost = self._entries.rest()
        if lost:
            logger.error("%d writes were lost: the store could not be written until the end", len(lost))
        for entry in lost:
            entry.fail(ServiceUnavailable("The service is stopping."))
        if self._looking is not None:
            self._looking.cancel()

    def _open_lane(self) -> None:
        """Have what is queued written, beside what is being written where the database can and that is little.

        Many small batches cost more than few large ones, and while the database fails one is tried at a time.
        """
        if self._lanes:
            if self._failures or self._entries.written_now > _LITTLE:
                return
            if self._lanes >= self._backend.batches_at_once:
                self._backend.widen()
                return
        self._lanes += 1
        self._gather_soon()

    def _close_lane(self) -> None:
        self._lanes -= 1
        if not self._lanes and self._none_open is not None and not self._none_open.done():
            self._none_open.set_result(None)

    def _gather_soon(self) -> None:
        """Let callers that are ready in this turn of the event loop join the batch; waits for nobody else."""
        self._gathering = True
        self._loop.call_soon(self._gather, _TURNS, len(self._entries))

    def _gather(self, turns: int, before: int) -> None:
        waiting = len(self._entries)
        if waiting != before and turns > 1:
            self._loop.call_soon(self._gather, turns - 1, waiting)
            return
        self._gathering = False
        batch = None if self._given_up else self._entries.take(self._most, _BATCH_BYTES)
        if batch is None:
            self._close_lane()
            return
        if self._entries and self._lanes < self._backend.most_at_once:
            self._open_lane()
        self._commit(batch)

    def _commit(self, batch: Taken) -> None:
        told = partial(self._answered, batch)
        try:
            self._backend.commit(_batch(batch.entries), told)
        except Exception as error:
            self._loop.call_soon(told, error)

    def _answered(self, batch: Taken, result: Mapping[bytes, bool] | Exception) -> None:
        if not isinstance(result, Exception):
            self._succeed(batch.entries, result)
            self._end(batch, held_up=False)
        elif self._given_up:
            self._close_lane()
        elif isinstance(result, RowRefused):
            self._answered_at = monotonic()
            work = self._isolate(batch, list(batch.entries), result)
            task = self._loop.create_task(work, name="store-writer")
            self._splitting.add(task)
            task.add_done_callback(partial(self._isolated, batch))
        else:
            self._hold_up(batch.entries, result)
            self._end(batch, held_up=True)

    def _isolated(self, batch: Taken, split: asyncio.Task[bool]) -> None:
        self._splitting.discard(split)
        error = asyncio.CancelledError() if split.cancelled() else split.exception()
        if error is None:
            self._end(batch, held_up=split.result())
        elif self._given_up:
            self._close_lane()
        else:
            self._hold_up(batch.entries, error)
            self._end(batch, held_up=True)

    def _end(self, batch: Taken, *, held_up: bool) -> None:
        """Go on with what is queued by now, unless another lane does."""
        self._entries.landed(batch)
        if held_up:
            self.statistics.retries += 1
            self._failures += 1
            if self._lanes > 1:
                self._close_lane()
                return
            pause = _RETRY_PAUSES[min(self._failures, len(_RETRY_PAUSES)) - 1]
            self._pause = self._loop.call_later(pause, self._go_on)
            return
        self._failures = 0
        self._go_on()

    def _go_on(self) -> None:
        if self._entries and not self._gathering:
            self._gather_soon()
        else:
            self._close_lane()

    def _succeed(self, entries: list[Entry], unwritten: Mapping[bytes, bool]) -> None:
        self._answered_at = monotonic()
        self._most = min(2 * self._most, _BATCH_ENTRIES)
        self._entries.release(entries)
        self.statistics.batches += 1
        self.statistics.entries += len(entries)
        for entry in entries:
            if unwritten and entry.key in unwritten:
                entry.fail(_reason(is_held=unwritten[entry.key]))
            else:
                entry.succeed()

    async def _isolate(self, batch: Taken, entries: list[Entry], error: RowRefused) -> bool:
        """Split these of a batch until the refused row stands alone; True if some could not be written meanwhile."""
        if len(entries) == 1:
            self.statistics.refused += 1
            logger.error("the store refused a row: %s", error)
            self._entries.release(entries)
            self._entries.parted(batch, entries)
            entries[0].fail(StoreError("The store refused to record this interaction."))
            return False
        middle = len(entries) // 2
        first = await self._commit_part(batch, entries[:middle])
        second = await self._commit_part(batch, entries[middle:])
        return first or second

    async def _commit_part(self, batch: Taken, entries: list[Entry]) -> bool:
        try:
            unwritten = await committed(self._backend, _batch(entries))
        except RowRefused as error:
            self._answered_at = monotonic()
            return await self._isolate(batch, entries, error)
        except Exception as error:
            self._entries.parted(batch, entries)
            self._hold_up(entries, error)
            return True
        self._entries.parted(batch, entries)
        self._succeed(entries, unwritten)
        return False

    def _hold_up(self, entries: list[Entry], error: BaseException) -> None:
        """Put the entries back, to be tried in smaller batches: this one may be more than the database can bear."""
        if not isinstance(error, StoreUnavailable):
            logger.error("the store failed in a way that was not foreseen", exc_info=error)
        if not self._failures:
            logger.warning("the store cannot be written: %s", error)
        self._most = max(1, len(entries) // 2)
        # What fails by itself must not stand in the way of all others.
        self._entries.put_back(entries, last=len(entries) == 1)
        self._give_up()

    def _look_again(self) -> None:
        self._look_due_at = monotonic() + _LOOK
        self._looking = self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._give_up()
        self._looking = None
        if self._entries.busy:
            self._look_again()

    def _give_up(self) -> None:
        moment = monotonic()
        if self._looking is not None and (late := moment - self._look_due_at) > _LOOK:
            # While the process itself stood still, nobody has waited for the database.
            self._entries.postpone(late)
            self._look_due_at = moment
        impatient = self._entries.impatient(moment)
        for entry in impatient:
            entry.fail(
                ServiceUnavailable(
                    "The store cannot be written now.", retry_after=5 if entry.new_work else None
                )
            )
        if impatient:
            logger.error("%d callers were told that the store cannot be written", len(impatient))
            self._entries.forget()


def _reason(*, is_held: bool) -> ServiceError:
    """Why an outcome could not be written: another process holds the interaction, or there is none."""
    if is_held:
        return Superseded()
    logger.error("an outcome has no interaction: was the database restored?")
    return StoreError("The store has lost this interaction and cannot record its outcome.")


def _batch(entries: list[Entry]) -> Batch:
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for entry in entries:
        for statement, row in entry.writes:
            rows[statement.name].append(row)
    return [(_STATEMENTS[name], rows[name]) for name in sorted(rows, key=_PLACES.__getitem__)]
