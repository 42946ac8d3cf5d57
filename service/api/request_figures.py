"""Counts what was answered, at the cost of a microsecond a request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from time import perf_counter
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)


class Requests:
    """Requests that were answered, by what was asked and the status, and how long that took."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int]] = Counter()
        self._buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_BOUNDS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def note(self, operation: str, status: int, began: float) -> None:
        """An answer is complete; ``began`` is of :func:`time.perf_counter`."""
        seconds = perf_counter() - began
        self._counts[operation, status] += 1
        self._buckets[operation][bisect_left(_BOUNDS, seconds)] += 1
        self._seconds[operation] += seconds

    def collect(self) -> Iterator[Metric]:
        """The figures in Prometheus's form."""
        answered = CounterMetricFamily(
            "interactions_requests", "Requests answered.", labels=("operation", "status")
        )
        for (operation, status), count in self._counts.items():
            answered.add_metric((operation, str(status)), count)
        yield answered
        lasted = HistogramMetricFamily(
            "interactions_request_duration_seconds", "Time to the end of the answer.", labels=("operation",)
        )
        for operation, buckets in self._buckets.items():
            lasted.add_metric((operation,), _cumulated(buckets), self._seconds[operation])
        yield lasted


def _cumulated(buckets: list[int]) -> list[tuple[str, float]]:
    total = 0
    told: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, _BOUNDS), "+Inf"), buckets, strict=True):
        total += count
        told.append((bound, total))
    return told
