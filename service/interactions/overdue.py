"""Creates that upstream answers too late for whoever has sent them: the answers are waited for, and recorded.

Upstream has the request, and names what it makes of it in no other place than its answer: without that there is nothing
to ask for later, and what was billed would stay unknown. So a time limit of a deployment ends the waiting of a caller,
not the interaction, which has until ``background_timeout`` as every other one. Nobody's place is taken meanwhile: a
bounded number is waited for, and what has waited longest makes room for the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from service.errors import DeadlineExceeded, ServiceError
from service.interactions.calls import Job
from service.interactions.sending import told
from service.interactions.taking_over import TakeOver
from service.store.records import now
from service.store.store import Store
from service.upstream.client import Late, Reply
from service.upstream.response import Response
from service.upstream.routing.retry import failure_of
from service.wire import ids

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ends:
    """What is done with an answer that has come after all, with a stream that has begun, and with neither."""

    answered: Callable[[Job, Reply], Awaitable[Any]]
    opened: Callable[[Job, Response], Any]
    failed: Callable[[Job, ServiceError], Awaitable[None]]


class Overdue:
    """One per process; at most ``most`` answers are waited for, each of an interaction that is in ``working``."""

    def __init__(self, store: Store, take_over: TakeOver, working: set[bytes], ends: Ends, most: int) -> None:
        self._store = store
        self._take_over = take_over
        self._working = working
        self._ends = ends
        self._most = most
        self._waiting: dict[bytes, Late] = {}
        #: Those of them that somebody has asked to cancel.
        self._cancelled: set[bytes] = set()
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        #: How those have ended that were waited for.
        self.counts = dict.fromkeys(("answered", "cancelled", "failed", "given_up"), 0)

    def __len__(self) -> int:
        """How many are waited for."""
        return len(self._waiting)

    def wait(self, job: Job, late: Late, seconds: float) -> None:
        """Wait for so many seconds more, and let the oldest go if there are too many."""
        if len(self._waiting) >= self._most:
            self._waiting.pop(next(iter(self._waiting))).give_up()
        key = job.intent.id
        self._waiting[key] = late
        self._working.add(key)
        task = asyncio.get_running_loop().create_task(self._awaited(job, late, seconds), name="overdue")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))

    def waits_for(self, key: bytes) -> bool:
        """Whether the answer of an interaction is waited for."""
        return key in self._waiting

    async def cancel(self, key: bytes) -> bool:
        """Wait no longer for the answer of an interaction, and end it as cancelled; False when none is waited for.

        An answer that comes in the same moment, or how it fails, is recorded instead.
        """
        late = self._waiting.get(key)
        if late is None:
            return False
        self._cancelled.add(key)
        late.give_up()
        await asyncio.wait((self._tasks[key],))
        return True

    async def close(self, patience: float) -> None:
        """Wait ``patience`` seconds for them all; the rows of the rest stay open."""
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks.values(), timeout=patience)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _awaited(self, job: Job, late: Late, seconds: float) -> None:
        await self._note(job)
        attempt = job.attempts[-1]
        try:
            try:
                answer = await late.answer(seconds)
            finally:
                # From here on it is not to be given up any more.
                self._waiting.pop(job.intent.id, None)
        except ServiceError as error:
            if job.intent.id in self._cancelled and isinstance(error, DeadlineExceeded):
                self.counts["cancelled"] += 1
                await self._end_as_cancelled(job)
                return
            self.counts["given_up" if isinstance(error, DeadlineExceeded) else "failed"] += 1
            error.message = job.told(error.message)
            _tell(attempt, told(failure_of(error), now() - attempt["started"]))
            await self._ends.failed(job, error)
            return
        self.counts["answered"] += 1
        _tell(attempt, {"us": now() - attempt["started"], "status": 200})
        if not isinstance(answer, Reply):
            self._ends.opened(job, answer)
            return
        try:
            await self._ends.answered(job, answer)
        except ServiceError as error:
            logger.warning("what upstream has answered late could not be recorded: %s", error)

    async def _end_as_cancelled(self, job: Job) -> None:
        intent = job.intent
        try:
            found = await self._store.find_held(intent.id)
            if found is not None and not found[0].terminal and found[0].owner_id == intent.owner_id:
                await self._take_over.cancel(found[0])
        except ServiceError as error:
            logger.warning("%s is not cancelled yet: %s", ids.to_text(intent.id), error)

    async def _note(self, job: Job) -> None:
        """Commit that it takes long, for whoever asks meanwhile, and for who goes on if this process dies."""
        intent, attempts = job.intent, orjson.dumps(job.attempts).decode()
        try:
            await self._store.reroute(intent.id, intent.owner_id, job.route.deployment.id, attempts, now())
        except ServiceError as error:
            logger.warning("what %s waits for could not be noted: %s", ids.to_text(intent.id), error)

    def _ended(self, key: bytes, task: asyncio.Task[None]) -> None:
        self._working.discard(key)
        self._waiting.pop(key, None)
        self._cancelled.discard(key)
        del self._tasks[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("waiting for what upstream answers late has failed", exc_info=error)


def _tell(attempt: dict[str, Any], end: dict[str, Any]) -> None:
    """Say of an attempt how it has ended after all."""
    for name in ("code", "ambiguous"):
        attempt.pop(name, None)
    attempt |= {**end, "late": True}
