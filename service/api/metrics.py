"""Figures for Prometheus, at ``GET /metrics``.

What happens on a request's way is counted in plain numbers, and only when somebody asks are they put in Prometheus's
form: a counter of its own library costs more than a routing decision. No label carries an id of an interaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.api.request_figures import Requests
from service.interactions.overdue import Overdue
from service.interactions.readers import Readers
from service.store.store import Store
from service.upstream.routing.router import Router

REGISTRY: Final = web.AppKey("registry", CollectorRegistry)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_CIRCUIT: Final = {"closed": 0, "half-open": 1, "open": 2}


class ServiceFigures(Collector):
    """Everything that is counted in one process."""

    def __init__(
        self, requests: Requests, router: Router, store: Store, readers: Readers, overdue: Overdue
    ) -> None:
        self._requests = requests
        self._router = router
        self._store = store
        self._readers = readers
        self._overdue = overdue

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        yield from self._requests.collect()
        yield from self._deployments()
        yield from self._retries()
        yield from self._late()
        yield from self._process()

    def _deployments(self) -> Iterator[Metric]:
        now = self._router.clock()
        attempts = CounterMetricFamily(
            "interactions_attempts", "Attempts by how they ended.", labels=("deployment", "outcome")
        )
        opened = CounterMetricFamily(
            "interactions_deployment_cooldowns", "Cooldowns begun.", labels=("deployment",)
        )
        gauges = {
            name: GaugeMetricFamily(f"interactions_deployment_{name}", text, labels=("deployment",))
            for name, text in _GAUGES.items()
        }
        for state in self._router:
            for outcome, count in sorted(state.counts.items()):
                attempts.add_metric((state.id, outcome), count)
            opened.add_metric((state.id,), state.circuit.opened)
            gauges["circuit"].add_metric((state.id,), _CIRCUIT[state.circuit.state(now)])
            gauges["running"].add_metric((state.id,), state.running)
            gauges["latency_seconds"].add_metric((state.id,), state.latency)
        yield from (attempts, opened, *gauges.values())

    def _retries(self) -> Iterator[Metric]:
        router = self._router
        for name, text, count in (
            ("retries", "Attempts on the model asked for after its first.", router.counts["retries"]),
            ("fallbacks", "Requests that went on with another model.", router.counts["fallbacks"]),
            ("retries_refused", "Retries that the retry budget did not allow.", router.budget.refused),
            ("shed", "Creates refused because too many were running.", router.gate.shed),
        ):
            yield CounterMetricFamily(f"interactions_{name}", text, value=count)

    def _late(self) -> Iterator[Metric]:
        late = CounterMetricFamily(
            "interactions_late_answers",
            "Answers too late for their callers, by how they ended.",
            labels=("outcome",),
        )
        for outcome, count in self._overdue.counts.items():
            late.add_metric((outcome,), count)
        yield late
        yield GaugeMetricFamily(
            "interactions_late_waiting", "Late answers that are waited for.", value=len(self._overdue)
        )

    def _process(self) -> Iterator[Metric]:
        written = self._store.statistics
        yield GaugeMetricFamily("interactions_running", "Creates under way.", value=self._router.gate.running)
        yield GaugeMetricFamily("interactions_open_readers", "Streams being read.", value=len(self._readers))
        yield GaugeMetricFamily(
            "interactions_writer_depth", "Writes that wait for the database.", value=self._store.queued
        )
        for name, count in (
            ("batches", written.batches),
            ("entries", written.entries),
            ("refused", written.refused),
            ("retries", written.retries),
            ("shed", written.shed),
        ):
            yield CounterMetricFamily(f"interactions_writer_{name}", f"The writer's {name}.", value=count)


_GAUGES: Final = {
    "circuit": "0 closed, 1 half-open, 2 open.",
    "running": "Creates and streams under way.",
    "latency_seconds": "Average time of answers.",
}


async def metrics(request: web.Request) -> web.StreamResponse:
    """``GET /metrics``."""
    body = generate_latest(request.app[REGISTRY])
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
