"""The group-commit writer: what many callers hand in at once is made durable by one transaction.

``await writer.put(...)`` returns when the transaction that holds the writes is committed. There is no timer: whatever
is queued when the last transaction ends is the next batch, so one caller pays one commit and a thousand share one.
A batch that the database refuses is split until the refused row stands alone; the others are written. When the
database cannot be reached, the batch is tried again for as long as its callers are ready to wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from service.errors import ServiceUnavailable, StoreError
from service.store.backend import Backend, Batch, Row, RowRefused, StoreUnavailable
from service.store.statements import BATCH_ORDER, BatchStatement

logger = logging.getLogger(__name__)

Write = tuple[BatchStatement, Row]

#: Turns of the event loop that a batch may grow in.
_TURNS: Final = 2
_BATCH_ENTRIES: Final = 256
_BATCH_BYTES: Final = 32 * 1024 * 1024
_RETRY_PAUSES: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
_PLACES: Final = {statement.name: place for place, statement in enumerate(BATCH_ORDER)}


@dataclass(slots=True)
class WriterStatistics:
    """Counters since the start of the process."""

    batches: int = 0
    entries: int = 0
    refused: int = 0
    retries: int = 0
    shed: int = 0


@dataclass(slots=True)
class _Entry:
    """The writes of one caller: committed together, answered together."""

    writes: tuple[Write, ...]
    patience: float
    size: int
    done: asyncio.Future[None]
    queued_at: float = field(default_factory=monotonic)


class Writer:
    """One per process; owns the order of all writes.

    ``limit`` is the number of queued entries from which new work is shed with 503.
    """

    def __init__(self, backend: Backend, *, limit: int) -> None:
        self._backend = backend
        self._limit = limit
        self._queue: deque[_Entry] = deque()
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._held_up = False
        self._failures = 0
        self.statistics = WriterStatistics()

    @property
    def depth(self) -> int:
        """Entries that wait for their transaction."""
        return len(self._queue)

    async def put(self, *writes: Write, patience: float, shed: bool = False) -> None:
        """Commit these writes as one unit.

        ``patience`` is how many seconds to go on when the database cannot be reached. With ``shed`` the writes are
        refused at once when the queue is full: for work that has not begun. Raises :class:`ServiceUnavailable` when
        shed or out of patience, :class:`StoreError` when the database refuses what a row holds.
        """
        if self._closed:
            raise ServiceUnavailable("The service is stopping.", retry_after=1)
        if shed and len(self._queue) >= self._limit:
            self.statistics.shed += 1
            raise ServiceUnavailable("The store has more work queued than it can take.", retry_after=1)
        size = sum(len(row[1]) for statement, row in writes if statement.packs)
        entry = _Entry(writes, patience, size, self._loop.create_future())
        self._queue.append(entry)
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="store-writer")
        await entry.done

    async def close(self) -> None:
        """Take no more work and commit what is queued."""
        self._closed = True
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._queue:
                self._held_up = False
                await self._gather()
                await self._commit(self._take())
                if self._held_up:
                    self.statistics.retries += 1
                    await asyncio.sleep(_RETRY_PAUSES[min(self._failures, len(_RETRY_PAUSES) - 1)])
                    self._failures += 1
                else:
                    self._failures = 0
        finally:
            self._task = None

    async def _gather(self) -> None:
        """Let callers that are ready in this turn of the event loop join the batch; waits for nobody else."""
        for _ in range(_TURNS):
            waiting = len(self._queue)
            await asyncio.sleep(0)
            if len(self._queue) == waiting:
                return

    def _take(self) -> list[_Entry]:
        """The next batch, with each interaction once: one statement cannot tell which of two rows is later."""
        entries: list[_Entry] = []
        keys: set[object] = set()
        size = 0
        while self._queue and len(entries) < _BATCH_ENTRIES and size < _BATCH_BYTES:
            entry = self._queue[0]
            key = entry.writes[0][1][0]
            if key in keys:
                break
            keys.add(key)
            self._queue.popleft()
            size += entry.size
            entries.append(entry)
        return entries

    async def _commit(self, entries: list[_Entry]) -> None:
        """Commit the entries, or put them back when the database cannot be reached; raises nothing."""
        if not entries:
            return
        try:
            await self._backend.commit(_batch(entries))
        except RowRefused as error:
            await self._isolate(entries, error)
        except StoreUnavailable as error:
            self._held_up = True
            self._queue.extendleft(reversed(entries))
            self._give_up_impatient(error)
        except Exception as error:
            logger.exception("the store failed in a way that was not foreseen")
            _fail(entries, StoreError(f"The store failed: {error}"))
        else:
            self.statistics.batches += 1
            self.statistics.entries += len(entries)
            for entry in entries:
                if not entry.done.done():
                    entry.done.set_result(None)

    async def _isolate(self, entries: list[_Entry], error: RowRefused) -> None:
        if len(entries) == 1:
            self.statistics.refused += 1
            logger.error("the store refused a row: %s", error)
            _fail(entries, StoreError("The store refused to record this interaction."))
            return
        middle = len(entries) // 2
        await self._commit(entries[:middle])
        await self._commit(entries[middle:])

    def _give_up_impatient(self, error: StoreUnavailable) -> None:
        now = monotonic()
        patient: deque[_Entry] = deque()
        impatient: list[_Entry] = []
        for entry in self._queue:
            (impatient if now - entry.queued_at >= entry.patience else patient).append(entry)
        if impatient:
            logger.error("%d writes were given up: %s", len(impatient), error)
            _fail(impatient, ServiceUnavailable(f"The store cannot be written now ({error}).", retry_after=5))
            self._queue = patient


def _fail(entries: list[_Entry], error: Exception) -> None:
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)


def _batch(entries: list[_Entry]) -> Batch:
    kinds: list[list[Row]] = [[] for _ in BATCH_ORDER]
    for entry in entries:
        for statement, row in entry.writes:
            kinds[_PLACES[statement.name]].append(row)
    return [(statement, rows) for statement, rows in zip(BATCH_ORDER, kinds, strict=True) if rows]
