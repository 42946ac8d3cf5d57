"""`least-busy`: where the fewest requests are under way, here and on average in another process."""

from __future__ import annotations

from collections.abc import Sequence

from service.upstream.routing.state import State
from service.upstream.routing.strategies.choice import lowest


class LeastBusy:
    """A deployment that becomes slow keeps its requests longer, and so gets fewer."""

    def choose(self, states: Sequence[State]) -> State:
        """One of the least busy."""
        return lowest(states, [state.busy for state in states])
