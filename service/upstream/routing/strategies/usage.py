"""`usage-based-routing`: where the least of this minute's `rpm` and `tpm` is used up, by all processes together."""

from __future__ import annotations

from collections.abc import Sequence

from service.upstream.routing.state import State
from service.upstream.routing.strategies.choice import lowest


class UsageBased:
    """What is used up entirely is not among the choices."""

    def choose(self, states: Sequence[State]) -> State:
        """One of the least used."""
        return lowest(states, [state.share for state in states])
