"""`cost-based-routing`: where a token in and a token out cost least together; deployments without prices come last."""

from __future__ import annotations

from collections.abc import Sequence

from service.upstream.routing.state import State
from service.upstream.routing.strategies.choice import lowest


class CostBased:
    """Goes by the prices of the configuration."""

    def choose(self, states: Sequence[State]) -> State:
        """One of the cheapest."""
        return lowest(states, [state.cost for state in states])
