"""What waits to be written: each caller's writes in the order they came, bounded by number and by bytes.

An entry is *new work* while nothing depends on it yet: it may be refused, and forgotten when its caller gives up. What
has happened is kept until it is written, though its caller was told long ago that it takes too long.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from service.store.backend import Row
from service.store.statement import BatchStatement

Write = tuple[BatchStatement, Row]

#: What an entry costs beside its bodies.
_OVERHEAD: Final = 1024
#: Seconds beyond its patience that a caller waits for the batch that is being written: most answers come within them,
#: and an intent that is written after its caller gave up stays behind without a call.
_GRACE: Final = 1.0


@dataclass(slots=True, eq=False)
class Entry:
    """The writes of one caller: committed together, answered together."""

    writes: tuple[Write, ...]
    #: All interactions that these writes are about: the events of many streams are one entry.
    keys: set[bytes]
    size: int
    deadline: float
    new_work: bool
    done: asyncio.Future[None]
    #: Whether this is written only when everything before it is.
    last: bool = False
    #: Whether its caller waits longer than it wanted to.
    postponed: bool = False

    @property
    def key(self) -> bytes:
        """The interaction that these writes are about."""
        key: bytes = self.writes[0][1][0]
        return key

    @property
    def forgotten(self) -> bool:
        """Whether nobody needs this any more."""
        return self.new_work and self.done.done()

    def succeed(self) -> None:
        """Tell the caller that its writes are durable."""
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Tell the caller why its writes are not, unless it knows something already."""
        if not self.done.done():
            self.done.set_exception(error)


def measured(writes: tuple[Write, ...]) -> tuple[set[bytes], int]:
    """All interactions that these writes are about, and how much memory they hold, roughly."""
    keys: set[bytes] = set()
    size = _OVERHEAD
    for statement, row in writes:
        keys.add(row[0])
        if statement.packs:
            size += len(row[1])
    return keys, size


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """The entries of one batch that are being written, and all interactions that the batch is about."""

    entries: list[Entry]
    keys: set[bytes]


class Entries:
    """The queue, and the batches that are being written.

    New work fits while fewer than ``limit`` entries are queued and fewer than ``byte_limit`` bytes are held; what has
    happened fits up to twice as many bytes.
    """

    def __init__(self, limit: int, byte_limit: int) -> None:
        self._limit = limit
        self._byte_limit = byte_limit
        self._queue: deque[Entry] = deque()
        self._taken: list[Taken] = []
        #: The interactions that are being written: each by one batch.
        self._written: set[bytes] = set()
        self._bytes = 0

    def __len__(self) -> int:
        """Entries that wait for their batch."""
        return len(self._queue)

    @property
    def written_now(self) -> int:
        """Entries of the batches that are being written."""
        return sum([len(batch.entries) for batch in self._taken])

    @property
    def busy(self) -> bool:
        """Whether anything is not yet written."""
        return bool(self._queue or self._taken)

    def fits(self, *, new_work: bool) -> bool:
        """Whether one more entry can be taken in."""
        if new_work:
            return len(self._queue) < self._limit and self._bytes < self._byte_limit
        return self._bytes < 2 * self._byte_limit

    def add(self, entry: Entry) -> None:
        """Queue an entry."""
        self._bytes += entry.size
        self._queue.append(entry)

    def take(self, most: int, most_bytes: int) -> Taken | None:
        """The next batch, with each interaction once: one statement cannot tell which of two rows is later.

        Nor has it an interaction that is being written: what comes later is written later. None while there is no more
        that can be written now.
        """
        queue, written = self._queue, self._written
        taken: list[Entry] = []
        keys: set[bytes] = set()
        size = 0
        for entry in itertools.islice(queue, most):
            touched = entry.keys
            if size >= most_bytes or not (keys.isdisjoint(touched) and written.isdisjoint(touched)):
                break
            if entry.last and (taken or self._taken):
                break
            keys |= touched
            size += entry.size
            taken.append(entry)
        for _ in taken:
            queue.popleft()
        if not taken:
            return None
        batch = Taken(taken, keys)
        self._taken.append(batch)
        self._written |= keys
        return batch

    def parted(self, batch: Taken, entries: Iterable[Entry]) -> None:
        """These are being written no more; what else the batch is about is, and what touches the same waits for it."""
        gone = set(entries)
        batch.entries[:] = [entry for entry in batch.entries if entry not in gone]

    def landed(self, batch: Taken) -> None:
        """Nothing of this batch is being written any more."""
        self._taken.remove(batch)
        self._written -= batch.keys

    def release(self, entries: Iterable[Entry]) -> None:
        """Hold these no longer: they are written, or never will be."""
        self._bytes -= sum([entry.size for entry in entries])

    def put_back(self, entries: list[Entry], *, last: bool) -> None:
        """Queue these again, before all others or behind them; what touches the same interactions stays behind them."""
        kept = self._kept(entries)
        if not last:
            self._queue.extendleft(reversed(kept))
            return
        touched = {key for entry in kept for key in entry.keys}
        others: deque[Entry] = deque()
        followers: list[Entry] = []
        for entry in self._queue:
            if touched.isdisjoint(entry.keys) and not entry.last:
                others.append(entry)
            else:
                touched |= entry.keys
                followers.append(entry)
        others.extend(kept)
        others.extend(followers)
        self._queue = others

    def impatient(self, moment: float) -> list[Entry]:
        """The entries whose callers have waited long enough."""
        late = [entry for entry in self._being_written() if entry.deadline + _GRACE <= moment]
        late += [entry for entry in self._queue if entry.deadline <= moment]
        return [entry for entry in late if not entry.done.done()]

    def postpone(self, seconds: float) -> None:
        """Let all callers wait for so much longer, each of them once."""
        for entry in self.rest():
            if not entry.postponed:
                entry.postponed = True
                entry.deadline += seconds

    def forget(self) -> None:
        """Drop queued new work that nobody waits for."""
        self._queue = deque(self._kept(self._queue))

    def rest(self) -> list[Entry]:
        """Everything that is not yet written."""
        return [*self._being_written(), *self._queue]

    def _being_written(self) -> list[Entry]:
        return [entry for batch in self._taken for entry in batch.entries]

    def _kept(self, entries: Iterable[Entry]) -> list[Entry]:
        kept: list[Entry] = []
        forgotten: list[Entry] = []
        for entry in entries:
            (forgotten if entry.forgotten else kept).append(entry)
        self.release(forgotten)
        return kept
