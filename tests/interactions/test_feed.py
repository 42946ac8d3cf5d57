"""The live events of one interaction, as listeners are handed them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from service.interactions.calls import HistoryUsed, Served
from service.interactions.feed import PIECE, Feed
from service.store.kept_events import Event


class Listener:
    """Takes everything, and is told what it takes or nothing."""

    def __init__(self, *, told: bool = True, takes: bool = True) -> None:
        self.taken: list[int] = []
        #: How many came at once.
        self.together: list[int] = []
        self.told_at = asyncio.get_running_loop().time()
        self.silences = 0
        self._told = told
        self._takes = takes

    def take(self, seq: int, frame: bytes) -> bool:
        self.taken.append(seq)
        if self._told:
            self.told_at = asyncio.get_running_loop().time()
        return True

    def take_all(self, events: Sequence[Event]) -> bool:
        if self._takes:
            self.together.append(len(events))
            for event in events:
                self.take(*event)
        return self._takes

    def idle(self) -> bool:
        self.silences += 1
        return True


def feed_of(count: int) -> Feed:
    """A feed that has published so many events."""
    feed = Feed(bytes(16), HistoryUsed("none", 0), Served("d", 1))
    for seq in range(1, count + 1):
        feed.publish(seq, b"event: step.delta\n\n")
    return feed


async def test_an_event_that_was_read_from_the_log_before_it_was_published_is_not_told_twice() -> None:
    feed, listener = feed_of(2), Listener()
    following = asyncio.ensure_future(feed.hand_over(3, listener, idle=60))
    await asyncio.sleep(0)
    feed.publish(3, b"event: step.delta\n\n")
    feed.publish(4, b"event: interaction.completed\n\n")
    feed.end()
    assert await following == 4
    assert listener.taken == [4]


@pytest.mark.parametrize("told", [True, False])
async def test_a_listener_that_takes_events_and_is_told_none_is_silent(told: bool) -> None:
    feed, listener = feed_of(1), Listener(told=told)
    following = asyncio.ensure_future(feed.hand_over(1, listener, idle=3.0))
    for seq in range(2, 32):
        await asyncio.sleep(0.12)
        feed.publish(seq, b"event: step.delta\n\n")
    feed.end()
    assert await following == 31
    assert bool(listener.silences) is not told


async def test_everybody_who_waits_hears_of_an_event_and_whoever_waited_too_long_of_none() -> None:
    feed = feed_of(1)
    assert not await feed.changed(0.001)
    waiting = [asyncio.ensure_future(feed.changed(60)) for _ in range(3)]
    impatient = asyncio.ensure_future(feed.changed(60))
    await asyncio.sleep(0)
    impatient.cancel()
    feed.publish(2, b"event: step.delta\n\n")
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert impatient.cancelled()


async def test_what_is_published_together_comes_together_in_portions_that_fit() -> None:
    feed, listener = feed_of(1), Listener()
    following = asyncio.ensure_future(feed.hand_over(1, listener, idle=60))
    await asyncio.sleep(0)
    waits = asyncio.ensure_future(feed.changed(60))
    await asyncio.sleep(0)
    with feed.together():
        for seq in range(2, 5):
            feed.publish(seq, b"x" * (PIECE * 2 // 5))
        assert not listener.taken
    assert listener.taken == [2, 3, 4]
    assert listener.together == [2, 1]
    assert await waits
    feed.publish(5, b"event: step.delta\n\n")
    feed.end()
    assert await following == 5


async def test_what_came_before_a_failure_is_handed_on() -> None:
    feed, listener = feed_of(1), Listener()
    following = asyncio.ensure_future(feed.hand_over(1, listener, idle=60))
    await asyncio.sleep(0)
    with suppress(ValueError), feed.together():
        feed.publish(2, b"event: step.delta\n\n")
        raise ValueError("no event")
    feed.end(broken=True)
    assert await following == 2
    assert listener.taken == [2]


async def test_a_listener_that_does_not_take_what_came_together_comes_for_all_of_it() -> None:
    feed, listener = feed_of(1), Listener(takes=False)
    following = asyncio.ensure_future(feed.hand_over(1, listener, idle=60))
    await asyncio.sleep(0)
    with feed.together():
        feed.publish(2, b"event: step.delta\n\n")
        feed.publish(3, b"event: step.delta\n\n")
    assert await following == 1
    assert [event.seq for event in feed.after(1) or ()] == [2, 3]
