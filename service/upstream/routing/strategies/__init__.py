"""The strategies, by LiteLLM's names."""

from __future__ import annotations

from service.settings.model import RoutingStrategy
from service.upstream.routing.strategies.choice import Strategy
from service.upstream.routing.strategies.cost import CostBased
from service.upstream.routing.strategies.latency import LatencyBased
from service.upstream.routing.strategies.least_busy import LeastBusy
from service.upstream.routing.strategies.shuffle import SimpleShuffle
from service.upstream.routing.strategies.usage import UsageBased

__all__ = ("Strategy", "goes_by_load", "goes_by_usage", "strategy_of")


def strategy_of(name: RoutingStrategy) -> Strategy:
    """The strategy with this name."""
    match name:
        case "simple-shuffle":
            return SimpleShuffle()
        case "least-busy":
            return LeastBusy()
        case "latency-based-routing":
            return LatencyBased()
        case "usage-based-routing" | "usage-based-routing-v2":
            return UsageBased()
        case "cost-based-routing":
            return CostBased()


def goes_by_load(name: RoutingStrategy) -> bool:
    """Whether it matters to this strategy what processes have under way, and how long their answers take."""
    return name in ("least-busy", "latency-based-routing")


def goes_by_usage(name: RoutingStrategy) -> bool:
    """Whether `rpm` and `tpm` are limits under this strategy, and not only shares."""
    return name in ("usage-based-routing", "usage-based-routing-v2")
