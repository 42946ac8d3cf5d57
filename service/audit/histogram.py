"""Durations as a histogram that can be merged: buckets of one width in the logarithm, their counts side by side.

A quantile is off by at most :data:`RELATIVE_ERROR`. The counts are lanes of one whole number, so merging two histograms
is one addition: a report merges thousands.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

RELATIVE_ERROR: Final = 0.01
_GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA: Final = math.log(_GAMMA)
#: What is in the first bucket: anything up to a tenth of a millisecond.
_SMALLEST: Final = 100
_LANE_BYTES: Final = 5
_LANE_BITS: Final = 8 * _LANE_BYTES
#: What is left of a number, divided by this, is the sum of its lanes, as nine gives the sum of decimal digits.
_SUM: Final = (1 << _LANE_BITS) - 1
#: More than a thousand years.
_LAST_BUCKET: Final = 1_800


def bucket_of(microseconds: int) -> int:
    """The bucket of a duration."""
    if microseconds <= _SMALLEST:
        return 0
    return min(_LAST_BUCKET, math.ceil(math.log(microseconds / _SMALLEST) / _LOG_GAMMA))


@lru_cache(256)
def _lowest(lanes: int) -> int:
    """What is in so many of the lowest lanes, as a mask."""
    return (1 << (_LANE_BITS * lanes)) - 1


def _middle_of(bucket: int) -> float:
    """The duration in microseconds that is nearest to everything in a bucket."""
    return 2 * _SMALLEST * _GAMMA**bucket / (_GAMMA + 1) if bucket else float(_SMALLEST)


class Histogram:
    """Counts of durations. Each bucket counts to a trillion."""

    __slots__ = ("_first", "_lanes")

    def __init__(self, first: int = 0, lanes: int = 0) -> None:
        #: The bucket of the lowest lane; nothing is counted below it.
        self._first = first
        self._lanes = lanes

    def add(self, microseconds: int) -> None:
        """Count one more duration."""
        self._merge(bucket_of(microseconds), 1)

    def merge(self, other: Histogram, times: int = 1) -> None:
        """Count everything that the other one has counted; -1 times takes it away again, in whatever order."""
        if other._lanes:
            self._merge(other._first, times * other._lanes)

    def _merge(self, first: int, lanes: int) -> None:
        if not self._lanes:
            self._first, self._lanes = first, lanes
        elif first >= self._first:
            self._lanes += lanes << (_LANE_BITS * (first - self._first))
        else:
            self._lanes = (self._lanes << (_LANE_BITS * (self._first - first))) + lanes
            self._first = first

    def quantiles(self, *shares: float) -> list[float | None]:
        """For each share, a duration in microseconds that so many are not above; None when there are none."""
        total = self._lanes % _SUM
        return [self._quantile(max(1, math.ceil(share * total))) if total else None for share in shares]

    def _quantile(self, rank: int) -> float:
        """What the one of that rank took: it is looked for in one half of the lanes, and in one half of that."""
        first, lanes = self._first, self._lanes
        count = (lanes.bit_length() - 1) // _LANE_BITS + 1
        while count > 1:
            half = count // 2
            lower = lanes & _lowest(half)
            seen = lower % _SUM
            if seen >= rank:
                lanes, count = lower, half
            else:
                first, lanes, count = first + half, lanes >> (_LANE_BITS * half), count - half
                rank -= seen
        return _middle_of(first)

    def to_bytes(self) -> bytes:
        """The counts between the first and the last bucket in use, after the number of the first."""
        if not self._lanes:
            return b""
        lanes = self._lanes.to_bytes((self._lanes.bit_length() + 7) // 8, "little")
        return self._first.to_bytes(2, "little") + lanes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Histogram:
        """What :meth:`to_bytes` wrote."""
        return cls(int.from_bytes(raw[:2], "little"), int.from_bytes(raw[2:], "little"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]
