"""What a reader remembers of upstream's cursors."""

from __future__ import annotations

import tracemalloc

from service.interactions.recent import Recent

COUNT = 20_000


def cursor(number: int) -> str:
    """As long as the longest that upstream gives."""
    return f"{number:>128}"


def test_the_newest_cursors_are_known_and_none_that_has_not_been() -> None:
    recent = Recent()
    for number in range(COUNT):
        assert recent.is_new(cursor(number))
        assert not recent.is_new(cursor(max(0, number - 511)))
    assert not any(recent.is_new(cursor(number)) for number in range(COUNT - 512, COUNT))
    assert recent.is_new(cursor(0))


def test_a_long_stream_costs_no_more_than_a_short_one() -> None:
    tracemalloc.start()
    try:
        recent = Recent()
        for number in range(COUNT):
            recent.is_new(cursor(number))
        own = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*recent.py")])
        assert sum(one.size for one in own.statistics("filename")) < 16 * 1024
    finally:
        tracemalloc.stop()
