"""The course of one create through the deployments: where it is, where it was, where it goes when that failed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from service.errors import ModelNotFound
from service.upstream.deployments import Route
from service.upstream.routing.retry import OF_THE_KEY, Decision, Failure, Kind, Place, decide
from service.upstream.routing.state import State
from service.upstream.routing.strategies.choice import CHANCE

if TYPE_CHECKING:
    from service.upstream.routing.router import Pool, Router

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller asks of the routing of one request; None leaves it to the configuration."""

    #: Seconds that it waits for the answer.
    timeout: float | None = None
    num_retries: int | None = None
    fallbacks: tuple[str, ...] | None = None


NO_WISHES = Wishes()


class Ask(NamedTuple):
    """What a create needs: a model or an agent, best on the deployment that it prefers.

    ``pinned`` says that no other than the preferred deployment can serve it, if that is one of them at all.
    """

    model: str | None
    agent: str | None
    preferred: str | None = None
    pinned: bool = False
    wishes: Wishes = NO_WISHES


class Stay:
    """The place of a stream at a deployment that was taken up there in the middle, until :meth:`end`."""

    __slots__ = ("_deployment_id", "_router", "_state")

    def __init__(self, router: Router, state: State) -> None:
        self._router = router
        self._deployment_id = state.id
        self._state: State | None = state
        state.join()

    @property
    def deployment_id(self) -> str:
        """Where it is, or was at last."""
        return self._deployment_id

    def broke(self) -> None:
        """What the deployment had begun to answer has broken off; to be said once of an interaction."""
        state = self._state
        if state is not None:
            opened = state.circuit.opened
            state.broke(self._router.clock())
            if state.circuit.opened > opened:
                logger.warning("deployment %s cools down: it breaks streams off", state.id)

    def spent(self, tokens: int | None) -> None:
        """The interaction has used so many tokens."""
        if self._state is None:
            self._router.spent(self.deployment_id, tokens)
        elif tokens:
            self._state.spent(tokens)

    def end(self) -> None:
        """The stream is over; may be said again."""
        if self._state is not None:
            self._state.release()
            self._state = None


class Course(Stay):
    """Holds a place at one deployment at a time, from its start to :meth:`end`.

    The start raises as :meth:`Router.start` does.
    """

    __slots__ = (
        "_ask",
        "_deadline",
        "_doubted",
        "_failures",
        "_fallbacks",
        "_home",
        "_on_end",
        "_policy",
        "_pool",
        "_probe",
        "_tried",
        "fallback",
        "route",
    )

    def __init__(self, router: Router, ask: Ask, pool: Pool, fallbacks: tuple[str, ...]) -> None:
        self._router = router
        self._ask = ask
        self._pool = pool
        self._fallbacks = list(fallbacks)
        self._failures: list[Failure] = []
        self._tried: list[State] = []
        self._on_end: Callable[[], None] | None = None
        self._policy = router.policy
        self._deadline = inf
        if (wishes := ask.wishes) is not NO_WISHES:
            self._heed(wishes)
        #: The model that stands in for the one asked for.
        self.fallback: str | None = None
        self._state = None
        self._probe = False
        #: Where it was forbidden, and whether it was the probe there, until it is known whether the key is the reason;
        #: and the deployments that could have been asked instead.
        self._doubted: tuple[State, bool, Pool] | None = None
        self.route: Route
        self._enter(self._first())

    def _heed(self, wishes: Wishes) -> None:
        if wishes.num_retries is not None:
            self._policy = self._policy.wished(wishes.num_retries)
        if wishes.timeout is not None:
            self._deadline = self._router.stopwatch() + wishes.timeout

    @property
    def deployment_id(self) -> str:
        """Where it is, or was at last."""
        return self.route.deployment.id

    @property
    def left(self) -> float:
        """Seconds that the caller still waits."""
        return self._deadline - self._router.stopwatch()

    def bound(self, seconds: float) -> None:
        """The caller waits so many seconds from now at most."""
        self._deadline = min(self._deadline, self._router.stopwatch() + seconds)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call this back at the end."""
        self._on_end = callback

    def answered(self, seconds: float) -> None:
        """The deployment has answered, or opened a stream, after so many seconds."""
        if self._state is not None:
            self._state.answered(self._router.clock(), seconds, probe=self._probe)
            self._probe = False
        if self._doubted is not None:
            other = self._state is not None and not self._state.shares_key(self._doubted[0])
            self._judge(blamed=True if other and self.fallback is None else None)

    def failed(self, seconds: float, failure: Failure) -> None:
        """The attempt has failed after so many seconds; the place at the deployment is kept."""
        state = self._state
        if state is not None:
            opened = state.circuit.opened
            state.failed(self._router.clock(), seconds, failure, probe=self._probe)
            if failure.kind is Kind.FORBIDDEN:
                if self._doubted is None:
                    self._doubted = (state, self._probe, self._pool)
                else:
                    state.cleared(probe=self._probe)
                    self._judge(blamed=False)
            self._probe = False
            if state.circuit.opened > opened:
                logger.warning("deployment %s cools down: %s (%d)", state.id, failure.code, failure.status)
        self._failures.append(failure)

    def next(self) -> Decision | None:
        """What follows on the failure; None: nothing. Otherwise the place at the deployment is given up."""
        if self._state is not None:
            if self._failures[-1].kind in OF_THE_KEY:
                self._tried.extend(other for other in self._pool.states if other.shares_key(self._state))
            self._tried.append(self._state)
        others = not self._ask.pinned and self._router.pick(self._pool, self._tried) is not None
        decision = decide(
            self._policy,
            self._failures,
            others=others,
            fallback=bool(self._fallbacks),
            left=self.left,
            roll=CHANCE.random(),
        )
        if decision is None or not self._router.budget.retry(self._router.clock()):
            return None
        self._home = (self._state, self._pool, self.fallback, self._failures)
        self._leave()
        return decision

    def stay(self) -> Decision | None:
        """Nowhere else will do: what follows where the last attempt has failed; None: nothing.

        To be said of a decision of :meth:`next` that has not led to an attempt.
        """
        self._leave()
        state, self._pool, self.fallback, self._failures = self._home
        if state is None or _is_dead(state, self._failures[-1], self._router.clock()):
            return None
        self._ask = self._ask._replace(pinned=True)
        self._tried, self._fallbacks = [state], []
        roll = CHANCE.random()
        return decide(self._policy, self._failures, others=False, fallback=False, left=self.left, roll=roll)

    def back(self) -> Route:
        """Go where :meth:`stay` has said."""
        self._enter(self._tried[-1])
        return self.route

    def move(self, decision: Decision) -> Route:
        """Go there; raises :class:`~service.errors.ServiceError` when nothing can serve any more."""
        state = None
        if decision.place is not Place.FALLBACK:
            state = self._again(decision)
            self._router.counts["retries"] += state is not None
        if state is None:
            state = self._fall_back()
        if state is None:
            raise self._router.refusal(self._pool)
        self._enter(state)
        return self.route

    def end(self) -> None:
        """The create is over, or its stream is; may be said again."""
        self._leave()
        if self._doubted is not None:
            self._judge(blamed=None)
        if self._on_end is not None:
            callback, self._on_end = self._on_end, None
            callback()

    def _first(self) -> State:
        router, pool = self._router, self._pool
        preferred = pool.find(self._ask.preferred) if self._ask.preferred is not None else None
        if preferred is not None and (self._ask.pinned or preferred.rest_until <= router.clock()):
            return preferred
        state = router.pick(pool) or self._fall_back() or router.resort(pool)
        if state is None:
            raise router.refusal(pool)
        return state

    def _again(self, decision: Decision) -> State | None:
        router, pool = self._router, self._pool
        last = self._tried[-1] if self._tried else None
        if self._ask.pinned:
            return last
        if decision.place is Place.OTHER and (other := router.pick(pool, self._tried)) is not None:
            return other
        if self._failures[-1].kind in OF_THE_KEY:
            return None
        return router.pick(pool) or router.resort(pool)

    def _judge(self, *, blamed: bool | None) -> None:
        """Say of where it was forbidden whether that is to blame; None: nobody knows."""
        if self._doubted is None:
            return
        (state, probe, pool), self._doubted = self._doubted, None
        opened, now = state.circuit.opened, self._router.clock()
        if blamed is None:
            last = max((other.answered_at for other in pool.states if other is not state), default=-inf)
            state.suspected(now, probe=probe, others_answered_at=last)
        elif blamed:
            state.blamed(now, probe=probe)
        else:
            state.cleared(probe=probe)
        if state.circuit.opened > opened:
            logger.warning("deployment %s cools down: its key is forbidden what another's may", state.id)

    def _fall_back(self) -> State | None:
        """The first other model that can serve now, if there is one."""
        while self._fallbacks:
            name = self._fallbacks.pop(0)
            try:
                pool = self._router.pool(name, None)
            except ModelNotFound:
                continue
            state = self._router.pick(pool)
            if state is not None:
                self._pool, self.fallback = pool, name
                self._failures, self._tried = [], []
                self._router.counts["fallbacks"] += 1
                return state
        return None

    def _enter(self, state: State) -> None:
        self.route = self._pool.route(state)
        self._probe = state.take(self._router.clock())
        self._state = state

    def _leave(self) -> None:
        if self._state is not None:
            self._state.release(probe=self._probe)
            self._state, self._probe = None, False


def _is_dead(state: State, failure: Failure, now: float) -> bool:
    """Whether a deployment cannot be reached, and not for the first time."""
    return failure.kind is Kind.UNREACHABLE and state.circuit.state(now) == "open"
