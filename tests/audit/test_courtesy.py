"""Lists rest beside callers who write, and beside nobody else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from time import monotonic

import pytest

from service.audit import courtesy as courtesies
from service.audit.courtesy import RESTS, Courtesy

#: Seconds after which a courtesy looks again at how many write.
LOOK = 0.3
WORK = 0.1


@pytest.fixture(autouse=True)
def _unforgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look says something however long a slow machine takes until the next."""
    monkeypatch.setattr(courtesies, "_FORGOTTEN", 60.0)


def often(rate: float) -> Callable[[], int]:
    """Callers who write so often a second."""
    began = monotonic()
    return lambda: int(rate * (monotonic() - began))


async def spells(courtesy: Courtesy, count: int) -> list[tuple[float, float]]:
    """When each of several readers that come at once begins and ends."""

    async def read() -> tuple[float, float]:
        async with courtesy.turn():
            began = monotonic()
            await asyncio.sleep(WORK)
            return began, monotonic()

    await asyncio.sleep(LOOK)
    return sorted(await asyncio.gather(*(read() for _ in range(count))))


async def test_beside_many_who_write_each_rests_after_the_one_before() -> None:
    found = await spells(Courtesy(often(1_000), patience=60.0), 3)
    for (before, ended), (began, _) in itertools.pairwise(found):
        assert began - ended >= min(RESTS * (ended - before), courtesies._LONGEST_REST) * 0.95


async def test_whoever_reads_for_long_again_and_again_rests_each_time() -> None:
    courtesy = Courtesy(often(1_000))
    await asyncio.sleep(LOOK)
    waited: list[float] = []
    for _ in range(3):
        asked = monotonic()
        async with courtesy.turn():
            waited.append(monotonic() - asked)
            await asyncio.sleep(5 * WORK)
    assert min(waited[1:]) >= 8 * WORK


async def test_where_few_write_all_go_on_at_once() -> None:
    found = await spells(Courtesy(often(5), patience=60.0), 3)
    assert max(began for began, _ in found) < min(ended for _, ended in found)


async def test_nobody_waits_longer_than_it_may() -> None:
    courtesy = Courtesy(often(1_000), patience=WORK / 10)
    found = await spells(courtesy, 3)
    assert max(began for began, _ in found) < min(ended for _, ended in found)


async def test_who_fails_or_leaves_lets_the_next_one_have_its_turn() -> None:
    courtesy = Courtesy(often(1_000), patience=60.0)
    await asyncio.sleep(LOOK)

    async def fail() -> None:
        async with courtesy.turn():
            raise ValueError

    async def leave() -> None:
        async with asyncio.timeout(WORK / 10), courtesy.turn():
            await asyncio.sleep(60.0)

    left = await asyncio.gather(fail(), leave(), return_exceptions=True)
    assert [type(one) for one in left] == [ValueError, TimeoutError]
    async with courtesy.turn():
        pass
