"""What a routing decision costs: the choice of a deployment, its place taken and given back, for each strategy.

    python -m bench.routing [--deployments N] [--rounds N]

A part of the deployments rests, and a part has answered before, as in a service that runs. Ends with status 1 when the
median of a strategy is beyond the aim of 20 µs. On a machine that is slower than the one that the aim was set on, the
bound grows with the time of a loop that has nothing to do with routing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import get_args

from service.settings import DeploymentSettings, Secret, Settings
from service.settings.model import RouterSettings, RoutingStrategy
from service.upstream.deployments import Deployments
from service.upstream.routing.course import Ask
from service.upstream.routing.router import Router

_MODEL = "gemini-2.5-flash"
_DECISIONS = 2_000
_AIM = 20.0
_LOOPS = 200
#: Microseconds of processor time that one loop takes where the aim was set.
_LOOP = 35.0


def router_of(strategy: RoutingStrategy, count: int) -> Router:
    """A router of so many deployments of one model."""
    entries = tuple(
        DeploymentSettings(
            id=f"d{number}",
            model_name="fast",
            model=_MODEL,
            api_key=Secret("bench"),
            weight=1.0 + number % 3,
            rpm=1_000_000_000,
            tpm=1_000_000_000,
            input_cost_per_token=1e-7 * (1 + number % 5),
        )
        for number in range(count)
    )
    settings = Settings(deployments=entries, router=RouterSettings(routing_strategy=strategy))
    router = Router(settings, Deployments(settings, "bench"))
    for number, state in enumerate(router):
        state.answered(router.clock(), 0.05 + 0.001 * number, probe=False)
        state.spent(number)
        if number % 10 == 9:
            state.told_cooling(router.clock() + 3600.0, asked=False)
    return router


def microseconds(router: Router) -> float:
    """The processor time of one decision: what else the machine does is not counted."""
    ask = Ask(_MODEL, None)
    started = time.process_time()
    for _ in range(_DECISIONS):
        course = router.start(ask)
        course.answered(0.05)
        course.end()
    return (time.process_time() - started) / _DECISIONS * 1e6


def slowness() -> float:
    """How many times as long as where the aim was set this machine takes for a plain loop; 1 where it is faster."""
    started = time.process_time()
    for _ in range(_LOOPS):
        found = 0.0
        for number in range(1_000):
            found += number * 0.5
    return max(1.0, (time.process_time() - started) / _LOOPS * 1e6 / _LOOP)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--deployments", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(f"one decision among {arguments.deployments} deployments, a tenth of them resting:")
    slowest, factors = 0.0, [slowness()]
    strategies: tuple[RoutingStrategy, ...] = get_args(RoutingStrategy)
    for strategy in strategies:
        router = router_of(strategy, arguments.deployments)
        microseconds(router)
        times = [microseconds(router) for _ in range(arguments.rounds)]
        slowest = max(slowest, statistics.median(times))
        factors.append(slowness())
        print(f"  {strategy:<24} {statistics.median(times):6.1f} µs (best {min(times):.1f})")
    bound = _AIM * statistics.median(factors)
    kept = slowest <= bound
    print(f"{'PASSED' if kept else 'FAILED'}: the slowest takes {slowest:.1f} µs", end="")
    print(f" of {bound:.1f}, the aim of {_AIM:g} on this machine" if bound > _AIM else f" of {_AIM:g}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
