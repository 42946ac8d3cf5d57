"""`simple-shuffle`: by chance, in proportion to `weight`, else to `rpm`, else to `tpm`, else alike."""

from __future__ import annotations

from collections.abc import Sequence

from service.upstream.routing.state import State
from service.upstream.routing.strategies.choice import CHANCE


class SimpleShuffle:
    """Shares as the configuration has them."""

    def choose(self, states: Sequence[State]) -> State:
        """One by chance."""
        weights = _weights(states)
        if weights is None or not any(weights):
            return states[int(CHANCE.random() * len(states))]
        return CHANCE.choices(states, weights)[0]


def _weights(states: Sequence[State]) -> list[float] | None:
    given = [state.weight for state in states]
    if given.count(None) < len(given):
        return [1.0 if weight is None else weight for weight in given]
    for limits in ([state.rpm for state in states], [state.tpm for state in states]):
        if None not in limits:
            return [float(limit or 0) for limit in limits]
    return None
