"""When each of many runs is asked about next: a heap and one timer, whatever their number.

At most ``concurrency`` are asked about at a time, divided as :mod:`service.interactions.places` says, and ``rate`` a
second; what is due beyond that waits. A client that asks for one gets its answer beyond these bounds, and whoever asks
for the same one at the same time shares it.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Set
from functools import partial

from service.interactions.places import Places
from service.interactions.run import Run, jittered

logger = logging.getLogger(__name__)


class Schedule:
    """One per process; ``poll`` asks about a run, and says whether it is over.

    ``shared`` says whether the runs are those of several deployments.
    """

    def __init__(
        self, poll: Callable[[Run], Awaitable[bool]], *, concurrency: int, rate: float, shared: bool = False
    ) -> None:
        self._poll = poll
        self._spacing = 1 / rate
        self._loop = asyncio.get_running_loop()
        self._runs: dict[bytes, Run] = {}
        self._heap: list[tuple[float, int, Run]] = []
        self._number = 0
        self._places = Places(concurrency, shared=shared)
        self._free_at = 0.0
        self._timer: asyncio.Handle | None = None
        self._wakes_at = 0.0
        self._closed = False
        #: How often upstream was asked.
        self.polls = 0

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, key: bytes) -> Run | None:
        """The run of an interaction, if it is here."""
        return self._runs.get(key)

    def keys(self) -> Set[bytes]:
        """All interactions that are here."""
        return self._runs.keys()

    def add(self, run: Run, delay: float) -> None:
        """Ask about a run in so many seconds, and then again and again until it is over."""
        if not self._closed:
            self._runs[run.key] = run
            self._place(run, delay)

    async def drop(self, keys: Set[bytes]) -> None:
        """Ask no more about these, and wait until nobody does: they are somebody else's."""
        polling = []
        for run in [self._runs.pop(key) for key in keys & self._runs.keys()]:
            run.place = 0
            if run.polling is not None:
                run.polling.cancel()
                polling.append(run.polling)
        await asyncio.gather(*polling, return_exceptions=True)

    async def at_once(self, run: Run, patience: float | None = None) -> None:
        """Ask now, and wait for that, at most ``patience`` seconds; never raises for what comes of it."""
        if run.polling is None and not self._closed:
            self._begin(run)
        if run.polling is not None:
            await asyncio.wait((run.polling,), timeout=patience)

    async def close(self) -> None:
        """Ask no more at all."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        polling = [run.polling for run in self._runs.values() if run.polling is not None]
        for task in polling:
            task.cancel()
        await asyncio.gather(*polling, return_exceptions=True)

    def _place(self, run: Run, delay: float) -> None:
        self._number += 1
        run.place = self._number
        due = self._loop.time() + delay
        heapq.heappush(self._heap, (due, run.place, run))
        if self._timer is None or due < self._wakes_at:
            self._look_at(due)

    def _look_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = max(due, self._free_at)
        self._timer = self._loop.call_at(self._wakes_at, self._begin_due)

    def _begin_due(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        moment = self._loop.time()
        self._await_places(moment)
        while (run := self._places.next()) is not None:
            if self._free_at > moment:
                self._look_at(self._free_at)
                return
            self._places.take(run)
            self._free_at = max(self._free_at, moment) + self._spacing
            self._begin(run, self._places)
        if self._heap:
            self._look_at(self._heap[0][0])

    def _await_places(self, moment: float) -> None:
        """Let all that are due wait for a place."""
        while self._heap and self._heap[0][0] <= moment:
            _, place, run = heapq.heappop(self._heap)
            if place == run.place:
                self._places.wait(run)

    def _begin(self, run: Run, places: Places | None = None) -> None:
        """Ask about a run, which has one of these places."""
        run.place = 0
        self.polls += 1
        task = run.polling = self._loop.create_task(self._polled(run), name="poll")
        task.add_done_callback(partial(self._ended, run, places))

    async def _polled(self, run: Run) -> None:
        if await self._poll(run):
            self._forget(run)

    def _forget(self, run: Run) -> None:
        if self._runs.get(run.key) is run:
            del self._runs[run.key]

    def _ended(self, run: Run, places: Places | None, task: asyncio.Task[None]) -> None:
        if places is not None:
            places.leave(run)
        run.polling = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an open interaction could not be followed", exc_info=error)
        if self._closed:
            return
        if self._runs.get(run.key) is run:
            self._place(run, jittered(run.pause))
        self._begin_due()
