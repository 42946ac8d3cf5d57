"""What processes on one database tell one another of load, over simulated time, with the words in a real database."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from service.interactions.sharing import Sharing
from service.store.store import Store
from service.upstream.routing.course import Course
from tests.support.store import open_store
from tests.upstream.routing.routers import Clock, Routing, entry, where

Takes = Callable[[str, float], float]


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    async with open_store(sqlite_url) as opened:
        yield opened.store


class Processes:
    """Routers on one clock and one database, which exchange what they know once a second."""

    def __init__(self, store: Store, count: int, strategy: str, names: str = "abc") -> None:
        self.clock = Clock()
        self.routings = [
            Routing(*(entry(name) for name in names), routing_strategy=strategy) for _ in range(count)
        ]
        for routing in self.routings:
            routing.clock = routing.router.clock = self.clock
        self.sharings = [Sharing(store, routing.router, 1.0) for routing in self.routings]

    async def second(self) -> None:
        """What happens once a second."""
        for routing, sharing in zip(self.routings, self.sharings, strict=True):
            routing.router.tick()
            await sharing.exchange()

    async def seconds(self, count: int) -> None:
        for _ in range(count):
            self.clock.now += 1.0
            await self.second()

    async def loaded(self, takes: Takes, seconds: float, clients: int = 8) -> list[tuple[float, str]]:
        """When and where requests began, of so many clients of each process that have one under way all the time."""
        began = self.clock.now
        numbers = range(clients * len(self.routings))
        happening = [(began + 0.001 * number, number) for number in numbers]
        under_way: dict[int, tuple[Course, float]] = {}
        log: list[tuple[float, str]] = []
        exchanged = began
        while happening:
            moment, number = heapq.heappop(happening)
            self.clock.now = moment
            if moment - exchanged >= 1.0:
                await self.second()
                exchanged = moment
            if number in under_way:
                course, sent = under_way.pop(number)
                course.answered(moment - sent)
                course.end()
            if moment - began >= seconds:
                continue
            course = self.routings[number % len(self.routings)].start()
            under_way[number] = course, moment
            log.append((moment - began, where(course)))
            heapq.heappush(happening, (moment + takes(where(course), moment - began), number))
        return log


def shares(log: list[tuple[float, str]], start: float, end: float) -> dict[str, float]:
    found = Counter(place for moment, place in log if start <= moment < end)
    return {name: found[name] / found.total() for name in "abc"}


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("strategy", ["least-busy", "latency-based-routing"])
async def test_load_leaves_a_slow_deployment_in_every_process_and_swings_nowhere(
    store: Store, strategy: str, count: int
) -> None:
    processes = Processes(store, count, strategy)

    def takes(name: str, moment: float) -> float:
        return 3.0 if name == "a" and moment >= 8.0 else 0.1

    log = await processes.loaded(takes, 20.0, clients=4)
    assert shares(log, 13.0, 20.0)["a"] < 0.05
    for start in range(2, 8):
        # Of one second, in which nobody hears anything new.
        assert max(shares(log, start, start + 1).values()) < 0.6
    assert min(shares(log, 0.0, 8.0).values()) > 0.2


async def test_what_another_process_has_under_way_is_heeded(store: Store) -> None:
    processes = Processes(store, 2, "least-busy", "ab")
    one, other = processes.routings
    streams = [one.start(preferred="a", pinned=True) for _ in range(6)]
    await processes.seconds(6)
    assert [where(other.start()) for _ in range(4)] == ["b"] * 4
    for stream in streams:
        stream.end()
    await processes.seconds(10)
    assert other.state("a").elsewhere_running == 0.0


async def test_what_a_dead_process_had_under_way_is_forgotten(store: Store) -> None:
    processes = Processes(store, 2, "least-busy", "ab")
    one, other = processes.routings
    for _ in range(6):
        one.start(preferred="a", pinned=True)
    await processes.seconds(6)
    assert other.state("a").elsewhere_running > 5
    # It says nothing any more.
    processes.sharings.pop(0)
    processes.routings.pop(0)
    await processes.seconds(15)
    assert other.state("a").elsewhere_running == 0.0


async def test_a_process_without_answers_goes_by_those_of_others_and_not_by_echoes(store: Store) -> None:
    processes = Processes(store, 3, "latency-based-routing", "ab")
    one, other, third = processes.routings
    for _ in range(8):
        for name, seconds in (("a", 2.0), ("b", 0.1)):
            course = one.start(preferred=name, pinned=True)
            course.answered(seconds)
            course.end()
        await processes.seconds(1)
    assert {where(other.start()) for _ in range(4)} == {"b"}
    assert third.state("a").latency == pytest.approx(2.0)
    await processes.seconds(40)
    assert max(routing.state("a").latency for routing in (one, other, third)) < 0.1
