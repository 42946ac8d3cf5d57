"""Each strategy over many requests: its shares, and how fast it leaves a deployment that becomes slow."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable

import pytest

from service.settings import DeploymentSettings
from service.upstream.routing.course import Course
from tests.upstream.routing.routers import Routing, entry, where

DRAWS = 10_000


def drawn(routing: Routing, draws: int = DRAWS) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(draws):
        course = routing.start()
        found[where(course)] += 1
        course.end()
    return found


def shares(routing: Routing) -> dict[str, float]:
    return {name: count / DRAWS for name, count in drawn(routing).items()}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry("a", weight=6), entry("b", weight=3), entry("c", weight=1)], {"a": 0.6, "b": 0.3, "c": 0.1}),
        ([entry("a", weight=3), entry("b")], {"a": 0.75, "b": 0.25}),
        ([entry("a", rpm=900), entry("b", rpm=100)], {"a": 0.9, "b": 0.1}),
        ([entry("a", tpm=80_000), entry("b", tpm=20_000)], {"a": 0.8, "b": 0.2}),
        ([entry("a", weight=1, rpm=1), entry("b", weight=1, rpm=9)], {"a": 0.5, "b": 0.5}),
        ([entry("a", rpm=900), entry("b")], {"a": 0.5, "b": 0.5}),
        ([entry("a"), entry("b"), entry("c"), entry("d")], dict.fromkeys("abcd", 0.25)),
    ],
)
def test_simple_shuffle_keeps_shares_within_two_percent(
    entries: list[DeploymentSettings], expected: dict[str, float]
) -> None:
    found = shares(Routing(*entries))
    assert found == pytest.approx(expected, abs=0.02)


def test_simple_shuffle_keeps_the_proportions_of_those_that_are_left() -> None:
    routing = Routing(entry("a", weight=6), entry("b", weight=3), entry("c", weight=1), cooldown_time=1e6)
    routing.rest("a")
    assert shares(routing) == pytest.approx({"b": 0.75, "c": 0.25}, abs=0.02)


def test_least_busy_spreads_what_is_under_way() -> None:
    routing = Routing(*(entry(name) for name in "abc"), routing_strategy="least-busy")
    courses = [routing.start() for _ in range(30)]
    assert Counter(map(where, courses)) == {"a": 10, "b": 10, "c": 10}
    for course in courses:
        if where(course) == "b":
            course.end()
    assert Counter(where(routing.start()) for _ in range(10)) == {"b": 10}


def test_least_busy_shares_alike_when_nothing_is_under_way() -> None:
    routing = Routing(*(entry(name) for name in "abcd"), routing_strategy="least-busy")
    assert shares(routing) == pytest.approx(dict.fromkeys("abcd", 0.25), abs=0.02)


@pytest.mark.parametrize("strategy", ["usage-based-routing", "usage-based-routing-v2"])
def test_usage_follows_the_limits(strategy: str) -> None:
    routing = Routing(entry("a", rpm=60_000), entry("b", rpm=20_000), routing_strategy=strategy)
    assert shares(routing) == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.02)


def test_usage_follows_the_tokens() -> None:
    routing = Routing(entry("a", tpm=10**9), entry("b", tpm=10**9), routing_strategy="usage-based-routing")
    tokens: Counter[str] = Counter()
    for number in range(DRAWS):
        course = routing.start()
        size = 300 if number % 3 else 30
        tokens[where(course)] += size
        course.spent(size)
        course.end()
    assert tokens["a"] / tokens.total() == pytest.approx(0.5, abs=0.02)


def test_usage_without_limits_shares_by_what_was_used() -> None:
    routing = Routing(entry("a"), entry("b"), entry("c"), routing_strategy="usage-based-routing")
    routing.start().spent(10_000)
    first = where(routing.start())
    assert len({first, *(where(routing.start()) for _ in range(20))}) == 2


def test_cost_goes_to_the_cheapest_alone() -> None:
    routing = Routing(
        entry("a", input_cost_per_token=3e-7, output_cost_per_token=2e-6),
        entry("b", input_cost_per_token=1e-7, output_cost_per_token=1e-6),
        entry("c", input_cost_per_token=1e-7, output_cost_per_token=1e-6),
        entry("d"),
        routing_strategy="cost-based-routing",
    )
    assert shares(routing) == pytest.approx({"b": 0.5, "c": 0.5}, abs=0.02)
    routing.rest("b")
    routing.rest("c")
    assert set(drawn(routing, 100)) == {"a"}


def simulated(
    routing: Routing, takes: Callable[[str, float], float], seconds: float, clients: int = 8
) -> list[tuple[float, str]]:
    """When and where requests began, of so many clients that each have one under way all the time."""
    began = routing.clock.now
    happening: list[tuple[float, int]] = [(began, number) for number in range(clients)]
    open_calls: dict[int, tuple[Course, float]] = {}
    log: list[tuple[float, str]] = []
    ticked = began
    while happening:
        moment, number = heapq.heappop(happening)
        routing.clock.now = moment
        if moment - ticked >= 1.0:
            routing.router.tick()
            ticked = moment
        if number in open_calls:
            course, sent = open_calls.pop(number)
            course.answered(moment - sent)
            course.end()
        if moment - began >= seconds:
            continue
        course = routing.start()
        open_calls[number] = (course, moment)
        log.append((moment - began, where(course)))
        heapq.heappush(happening, (moment + takes(where(course), moment - began), number))
    return log


def share_of(log: list[tuple[float, str]], name: str, start: float, end: float) -> float:
    within = [place for moment, place in log if start <= moment < end]
    return within.count(name) / len(within)


@pytest.mark.parametrize("strategy", ["least-busy", "latency-based-routing"])
def test_load_leaves_a_deployment_that_becomes_slow_within_five_seconds(strategy: str) -> None:
    routing = Routing(*(entry(name) for name in "abc"), routing_strategy=strategy)

    def takes(name: str, moment: float) -> float:
        return 3.0 if name == "a" and moment >= 10.0 else 0.05

    log = simulated(routing, takes, 30.0)
    assert share_of(log, "a", 0.0, 10.0) > 0.15
    assert share_of(log, "a", 15.0, 30.0) < 0.05


def test_latency_comes_back_to_a_deployment_that_is_fast_again() -> None:
    routing = Routing(entry("a"), entry("b"), routing_strategy="latency-based-routing")

    def takes(name: str, moment: float) -> float:
        return 2.0 if name == "a" and moment < 10.0 else 0.05

    log = simulated(routing, takes, 60.0)
    assert share_of(log, "a", 5.0, 10.0) < 0.05
    assert share_of(log, "a", 50.0, 60.0) > 0.25


def test_latency_prefers_the_fastest_and_shares_among_those_near_it() -> None:
    routing = Routing(*(entry(name) for name in "abc"), routing_strategy="latency-based-routing")
    speeds = {"a": 0.050, "b": 0.052, "c": 0.200}
    log = simulated(routing, lambda name, _: speeds[name], 60.0, clients=1)
    assert share_of(log, "c", 10.0, 60.0) < 0.05
    assert 0.3 < share_of(log, "a", 10.0, 60.0) < 0.7
