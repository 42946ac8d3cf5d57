"""`least-busy`: where the fewest requests of this process are under way."""

from __future__ import annotations

from collections.abc import Sequence

from service.upstream.routing.state import State
from service.upstream.routing.strategies.choice import lowest


class LeastBusy:
    """A deployment that becomes slow keeps its requests longer, and so gets fewer."""

    def choose(self, states: Sequence[State]) -> State:
        """One of the least busy."""
        return lowest(states, [state.running for state in states])
