"""The router of one process: knows the state of every deployment and starts the course of each create."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from math import inf
from typing import Final

from service.errors import InvalidRequest, ModelNotFound, RateLimitExceeded, ServiceError, ServiceUnavailable
from service.settings import Settings
from service.settings.model import ANY_MODEL
from service.upstream.deployments import Deployment, Deployments, Group, Route
from service.upstream.routing.budget import RetryBudget
from service.upstream.routing.circuit import Circuit
from service.upstream.routing.course import Ask, Course, Stay
from service.upstream.routing.gate import Gate
from service.upstream.routing.retry import Policy
from service.upstream.routing.state import MINUTE, State
from service.upstream.routing.strategies import goes_by_load, goes_by_usage, strategy_of

#: Groups that are remembered; callers make up names where a wildcard serves them.
_REMEMBERED: Final = 1_000
#: By how much an average latency that nothing renews fades each second.
_FADING: Final = 0.8
#: Seconds after which trying again is worth it where nothing better is known.
_SOON: Final = 1.0

Clock = Callable[[], float]


class Pool:
    """The deployments of a group with their states, those with the lowest ``order`` first."""

    __slots__ = ("_routes", "name", "names", "only", "states", "tiers")

    def __init__(self, group: Group, states: dict[str, State]) -> None:
        self.name = group.name
        self._routes = {route.deployment.id: route for route in group.routes}
        self.states = tuple(states[route.deployment.id] for route in group.routes)
        #: What the configuration may call it where it says what stands in for it.
        self.names = (self.name, *(route.deployment.settings.model_name for route in group.routes))
        #: The one deployment, where no choice is to be made.
        self.only = self.states[0] if len(self.states) == 1 else None
        orders = sorted({state.order for state in self.states})
        self.tiers = tuple(tuple(state for state in self.states if state.order == order) for order in orders)

    def route(self, state: State) -> Route:
        """The route to one of the deployments."""
        return self._routes[state.id]

    def find(self, deployment_id: str | None) -> State | None:
        """The state of a deployment, if it is one of these."""
        for state in self.states:
            if state.id == deployment_id:
                return state
        return None


class Router:
    """Chooses deployments; ``clock`` gives seconds since the epoch, ``stopwatch`` seconds that nobody sets."""

    def __init__(
        self,
        settings: Settings,
        deployments: Deployments,
        clock: Clock = time.time,
        stopwatch: Clock = time.monotonic,
    ) -> None:
        router = settings.router
        self.settings = router
        self.clock = clock
        self.stopwatch = stopwatch
        self.budget = RetryBudget(router.retry_allowance)
        self.gate = Gate(settings.max_concurrent_requests)
        self.policy = Policy(
            router.num_retries, router.retry_after, router.retry_ambiguous, router.retry_policy
        )
        #: Retries and fallbacks since the start of the process.
        self.counts: Counter[str] = Counter()
        self._deployments = deployments
        self._strategy = strategy_of(router.routing_strategy)
        self.enforces_limits = goes_by_usage(router.routing_strategy) or (
            "enforce_model_rate_limits" in router.optional_pre_call_checks
        )
        self.shares_load = goes_by_load(router.routing_strategy)
        self._states = {deployment.id: self._state(deployment) for deployment in deployments}
        self._pools: dict[tuple[str | None, str | None], Pool] = {}
        self._minute_ends = 0.0
        self._falls_back = bool(router.fallbacks or router.default_fallbacks)

    def __iter__(self) -> Iterator[State]:
        return iter(self._states.values())

    def state(self, deployment_id: str) -> State | None:
        """What is known of a deployment."""
        return self._states.get(deployment_id)

    def spent(self, deployment_id: str, tokens: int | None) -> None:
        """An interaction of this deployment has used so many tokens."""
        if tokens and (state := self._states.get(deployment_id)) is not None:
            state.spent(tokens)

    def stay(self, deployment_id: str) -> Stay | None:
        """A place for a stream that is taken up in the middle; None where the deployment is not configured."""
        state = self._states.get(deployment_id)
        return None if state is None else Stay(self, state)

    def start(self, ask: Ask) -> Course:
        """Choose the first deployment of a create.

        Raises :class:`ModelNotFound` when no deployment serves what is asked for, and :class:`ServiceUnavailable` or
        :class:`RateLimitExceeded` when none can now.
        """
        pool = self.pool(ask.model, ask.agent)
        fallbacks = self._fallbacks(ask, pool) if self._falls_back or ask.wishes.fallbacks is not None else ()
        self.budget.request()
        return Course(self, ask, pool, fallbacks)

    def pool(self, model: str | None, agent: str | None) -> Pool:
        """The deployments for a model or agent; raises :class:`ModelNotFound`."""
        pool = self._pools.get((model, agent))
        if pool is None:
            pool = Pool(self._deployments.group(model, agent), self._states)
            if len(self._pools) >= _REMEMBERED:
                self._pools.clear()
            self._pools[model, agent] = pool
        return pool

    def pick(self, pool: Pool, tried: Collection[State] = ()) -> State | None:
        """A deployment that can serve now and was not tried; None when there is none."""
        now = self.clock()
        if not self._minute_ends - MINUTE <= now < self._minute_ends:
            self._roll(now)
        only = pool.only
        if only is not None:
            return only if only.rest_until <= now and only not in tried else None
        for tier in pool.tiers:
            usable = [state for state in tier if state.rest_until <= now]
            if tried:
                usable = [state for state in usable if state not in tried]
            if len(usable) > 1:
                return self._strategy.choose(usable)
            if usable:
                return usable[0]
        return None

    def resort(self, pool: Pool) -> State | None:
        """A deployment whose rest nothing but its own failures demand: better than none when all others rest too."""
        now = self.clock()
        willing = [
            state
            for state in pool.states
            if not state.full
            and not state.used_up
            and (len(pool.states) == 1 or not (state.circuit.asked and state.circuit.until > now))
        ]
        return willing[0] if len(willing) == 1 else self._strategy.choose(willing) if willing else None

    def refusal(self, pool: Pool) -> ServiceError:
        """What a caller is told when no deployment can serve now, with the time until one can."""
        now = self.clock()
        soonest = min((state.rest_until for state in pool.states), default=inf) - now
        wait = soonest if soonest < inf else _SOON
        if all(state.full for state in pool.states):
            return ServiceUnavailable(
                f"Every deployment of {pool.name!r} has as many requests under way as its max_parallel_requests "
                "allows; try again.",
                retry_after=_SOON,
            )
        return RateLimitExceeded(
            f"Every deployment of {pool.name!r} is at its limit or has asked to be left alone for a while.",
            retry_after=max(wait, 0.0),
        )

    def tick(self) -> None:
        """Let what was long ago count for less; to be called every second or so."""
        now = self.clock()
        if not self._minute_ends - MINUTE <= now < self._minute_ends:
            self._roll(now)
        self.budget.tick(now)
        for state in self._states.values():
            state.fade(now, _FADING)
            state.look()

    def _roll(self, now: float) -> None:
        self._minute_ends = (now // MINUTE + 1) * MINUTE
        for state in self._states.values():
            state.roll(self._minute_ends)

    def _state(self, deployment: Deployment) -> State:
        router = self.settings
        circuit = Circuit(router.allowed_fails, router.cooldown_time, enabled=not router.disable_cooldowns)
        return State(deployment, circuit, enforced=self.enforces_limits)

    def _fallbacks(self, ask: Ask, pool: Pool) -> tuple[str, ...]:
        """The models that may stand in for the one asked for, in order; raises :class:`InvalidRequest`."""
        if ask.model is None or ask.pinned:
            return ()
        wished = ask.wishes.fallbacks
        if wished is not None:
            for name in wished:
                self._check(name)
            names = wished
        else:
            names = self._configured_fallbacks(ask.model, pool)
        if not names:
            return ()
        others = [name for name in names if name != ask.model and name not in pool.names]
        return tuple(others[: self.settings.max_fallbacks])

    def _configured_fallbacks(self, model: str, pool: Pool) -> tuple[str, ...]:
        settings = self.settings
        if settings.fallbacks:
            for name in (model, *pool.names):
                if (found := settings.fallbacks.get(name)) is not None:
                    return found
            if (found := settings.fallbacks.get(ANY_MODEL)) is not None:
                return found
        return settings.default_fallbacks

    def _check(self, name: str) -> None:
        try:
            self.pool(name, None)
        except ModelNotFound as error:
            raise InvalidRequest(f"'fallbacks' cannot be used: {error.message}") from None
