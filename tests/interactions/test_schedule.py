"""When runs are asked about: bounded in number and rate, spread, and shared by whoever asks at the same time."""

from __future__ import annotations

import asyncio

from service.interactions.run import Pacing, Run, jittered
from service.interactions.schedule import Schedule
from service.store.held import Claim
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids


def run(pause: float = 0.0, deployment: str = "dep-1") -> Run:
    claim = Claim(ids.mint(), DEFAULT_PROJECT, 0, False, True, deployment, "v1_up", True)
    return Run(claim, pause, may_stream=False)


class Upstream:
    """Counts questions; each run is over after so many."""

    def __init__(self, times: int = 1, seconds: float = 0.0) -> None:
        self.asked: dict[bytes, int] = {}
        self.at_once = self.most_at_once = 0
        self._times = times
        self._seconds = seconds

    async def poll(self, run: Run) -> bool:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._seconds)
        self.at_once -= 1
        self.asked[run.key] = self.asked.get(run.key, 0) + 1
        return self.asked[run.key] >= self._times


async def until_empty(schedule: Schedule) -> None:
    async with asyncio.timeout(20):
        while len(schedule):
            await asyncio.sleep(0.005)


async def test_every_run_is_asked_about_until_it_is_over() -> None:
    upstream = Upstream(times=3)
    schedule = Schedule(upstream.poll, concurrency=4, rate=1e6)
    for _ in range(500):
        schedule.add(run(), 0.0)
    await until_empty(schedule)
    assert set(upstream.asked.values()) == {3}
    assert len(upstream.asked) == 500
    assert schedule.polls == 1500


async def test_only_so_many_are_asked_about_at_a_time() -> None:
    upstream = Upstream(seconds=0.001)
    schedule = Schedule(upstream.poll, concurrency=3, rate=1e6)
    for _ in range(60):
        schedule.add(run(), 0.0)
    await until_empty(schedule)
    assert upstream.most_at_once == 3


async def test_only_so_many_are_asked_about_in_a_second() -> None:
    upstream = Upstream()
    schedule = Schedule(upstream.poll, concurrency=100, rate=200)
    began = asyncio.get_running_loop().time()
    for _ in range(50):
        schedule.add(run(), 0.0)
    await until_empty(schedule)
    # The slower this machine is, the longer it takes: there is no upper bound to assert.
    assert asyncio.get_running_loop().time() - began >= 49 / 200


async def test_whoever_asks_at_the_same_time_shares_the_answer() -> None:
    upstream = Upstream(times=2, seconds=0.02)
    schedule = Schedule(upstream.poll, concurrency=1, rate=1e6)
    one = run(pause=1000)
    schedule.add(one, 1000)
    await asyncio.gather(*(schedule.at_once(one) for _ in range(10)))
    assert upstream.asked == {one.key: 1}
    await schedule.at_once(one)
    assert len(schedule) == 0


async def test_upstreams_that_do_not_answer_hold_up_no_other_however_many_they_are() -> None:
    hanging: dict[str, int] = {}
    answered: list[bytes] = []

    async def poll(run: Run) -> bool:
        deployment = run.claim.deployment_id
        if deployment.startswith("hung"):
            hanging[deployment] = hanging.get(deployment, 0) + 1
            await asyncio.Event().wait()
        answered.append(run.key)
        return True

    schedule = Schedule(poll, concurrency=8, rate=1e6, shared=True)
    names = {f"hung-{number}": places for number, places in enumerate([4, 2] + [1] * 10)}
    for name, places in names.items():
        for _ in range(50):
            schedule.add(run(deployment=name), 0.0)
        async with asyncio.timeout(20):
            while hanging.get(name, 0) < places:
                await asyncio.sleep(0.005)
    good = [run() for _ in range(50)]
    for one in good:
        schedule.add(one, 0.0)
    async with asyncio.timeout(20):
        while len(answered) < len(good):
            await asyncio.sleep(0.005)
    assert hanging == names
    await schedule.close()


async def test_a_client_waits_only_so_long_and_the_question_goes_on() -> None:
    answer = asyncio.Event()

    async def poll(run: Run) -> bool:
        return await answer.wait()

    schedule = Schedule(poll, concurrency=1, rate=1e6)
    one = run()
    schedule.add(one, 1000)
    await schedule.at_once(one, 0.01)
    assert one.polling is not None
    answer.set()
    await schedule.at_once(one)
    assert len(schedule) == 0


async def test_what_fails_is_asked_about_again() -> None:
    times = 0

    async def fail_twice(run: Run) -> bool:
        nonlocal times
        times += 1
        if times < 3:
            raise ConnectionError
        return True

    schedule = Schedule(fail_twice, concurrency=1, rate=1e6)
    schedule.add(run(), 0.0)
    await until_empty(schedule)
    assert times == 3


async def test_what_is_dropped_is_asked_about_no_more() -> None:
    upstream = Upstream(times=10**6)
    schedule = Schedule(upstream.poll, concurrency=2, rate=1e6)
    one, other = run(), run()
    schedule.add(one, 0.0)
    schedule.add(other, 0.0)
    async with asyncio.timeout(20):
        while one.key not in upstream.asked:
            await asyncio.sleep(0.005)
    await schedule.drop({one.key})
    asked = upstream.asked[one.key]
    await asyncio.sleep(0.02)
    assert upstream.asked[one.key] == asked
    await schedule.close()
    schedule.add(run(), 0.0)
    assert schedule.keys() == {other.key}


def test_pauses_grow_to_a_bound_and_differ() -> None:
    pacing = Pacing(2.0, 30.0)
    pauses = [2.0]
    while pauses[-1] < 30:
        pauses.append(pacing.after(pauses[-1]))
    assert pauses == sorted(pauses)
    assert pacing.after(30.0) == 30.0
    different = {jittered(30.0) for _ in range(100)}
    assert len(different) > 90
    assert all(24 <= pause <= 36 for pause in different)
