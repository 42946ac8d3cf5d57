"""Processes on one database share what they know of the deployments, behind the requests: one task, once a second.

Of a minute's usage each tells its own part, and the others' parts are added up; a cooldown that one has begun holds for
all. Where the strategy goes by load, each tells what it has under way, on average, and how long its answers take. To
that each adds what another process has on the mean, and not their sum: what all react to at once, and a second late,
would otherwise swing from one deployment to the next. What is told is at most two intervals old. A database that cannot
be reached only means that each goes by what it knows itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from statistics import mean
from typing import Final

from service.errors import ServiceError
from service.store.deployment_states import SharedState
from service.store.store import Store
from service.tasks import stop
from service.upstream.routing.router import Router
from service.upstream.routing.state import MINUTE, STALE, State
from service.wire import ids

logger = logging.getLogger(__name__)

_MICROSECONDS: Final = 1_000_000
_THOUSANDTHS: Final = 1_000
#: Seconds that a word counts at most: cooldowns are no longer, and minutes are shorter.
_COUNTS: Final = 300
#: Seconds, and intervals, that a word on what is under way counts: a process that has died has nothing under way.
_LOAD_COUNTS: Final = 10.0
_LOAD_INTERVALS: Final = 3
#: Requests under way, on average, that are worth a word.
_LEAST_LOAD: Final = 0.05
#: Seconds after which what a process has told is dropped, and between two looks for such.
_FORGET: Final = 86_400
_LOOK: Final = 3_600.0


class Sharing:
    """Exchanges the states of one router with the database."""

    def __init__(self, store: Store, router: Router, interval: float) -> None:
        self._store = store
        self._router = router
        self._interval = interval
        self._replica = ids.mint()
        self._task: asyncio.Task[None] | None = None
        self._looked = 0.0
        #: Deployments of which the last word was that something is under way.
        self._loaded: set[str] = set()

    def start(self) -> None:
        """Begin to exchange."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="sharing")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            await stop(self._task)

    async def exchange(self) -> None:
        """Tell what is new here and take in what the others have told; raises :class:`ServiceError`."""
        now = self._router.clock()
        changed = [state for state in self._router if state.changed or self._is_loaded(state)]
        for state in changed:
            state.changed = False
        try:
            await self._store.share_states([self._word(state, now) for state in changed])
        except ServiceError:
            for state in changed:
                state.changed = True
            raise
        since = int((now - _COUNTS) * _MICROSECONDS)
        self._take_in(await self._store.shared_states(self._replica, since), now)

    async def _run(self) -> None:
        shared = len(list(self._router)) > 1 or self._router.enforces_limits
        while True:
            await asyncio.sleep(self._interval)
            self._router.tick()
            if not shared:
                continue
            try:
                await self.exchange()
                await self._forget()
            except ServiceError as error:
                logger.info("deployment states could not be exchanged: %s", error)
            except Exception:
                logger.exception("exchanging deployment states failed in a way that was not foreseen")

    async def _forget(self) -> None:
        now = self._router.clock()
        if now - self._looked >= _LOOK:
            self._looked = now
            await self._store.forget_states(self._replica, int((now - _FORGET) * _MICROSECONDS))

    def _is_loaded(self, state: State) -> bool:
        """Whether what is under way must be told, again and again, or that it no longer is."""
        if not self._router.shares_load:
            return False
        was = state.id in self._loaded
        if state.average >= _LEAST_LOAD:
            self._loaded.add(state.id)
            return True
        self._loaded.discard(state.id)
        return was

    def _word(self, state: State, now: float) -> SharedState:
        circuit = state.circuit
        loaded = state.id in self._loaded
        heard = (
            self._router.shares_load
            and state.latency
            and now - state.sampled_at < min(2 * self._interval, STALE)
        )
        return SharedState(
            replica=self._replica,
            deployment_id=state.id,
            minute=int(now // MINUTE),
            requests=state.requests,
            tokens=state.tokens,
            cooling_until=int(circuit.until * _MICROSECONDS) if circuit.until > now else None,
            asked=circuit.asked,
            told_at=int(now * _MICROSECONDS),
            running=round(state.average * _THOUSANDTHS) if loaded else 0,
            latency=round(state.latency * _MICROSECONDS) if heard else None,
        )

    def _take_in(self, told: list[SharedState], now: float) -> None:
        minute = int(now // MINUTE)
        used: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for word in told:
            if word.minute == minute:
                used[word.deployment_id][0] += word.requests
                used[word.deployment_id][1] += word.tokens
            state = self._router.state(word.deployment_id)
            if state is not None and word.cooling_until is not None:
                until = word.cooling_until / _MICROSECONDS
                if until > now:
                    state.told_cooling(until, asked=word.asked)
        for state in self._router:
            state.told_usage(*used[state.id])
        if self._router.shares_load:
            self._take_in_load(told, now)

    def _take_in_load(self, told: list[SharedState], now: float) -> None:
        heard_since = (now - _LOAD_INTERVALS * self._interval) * _MICROSECONDS
        since = min(heard_since, (now - _LOAD_COUNTS) * _MICROSECONDS)
        fresh = [word for word in told if word.told_at >= since]
        others = len({word.replica for word in fresh if word.running}) or 1
        running: defaultdict[str, int] = defaultdict(int)
        latencies: defaultdict[str, list[int]] = defaultdict(list)
        for word in fresh:
            running[word.deployment_id] += word.running
            if word.latency is not None and word.told_at >= heard_since:
                latencies[word.deployment_id].append(word.latency)
        for state in self._router:
            state.told_load(running[state.id] / _THOUSANDTHS / others)
            heard = latencies[state.id]
            if heard and now - state.sampled_at >= STALE:
                state.told_latency(now, mean(heard) / _MICROSECONDS)
