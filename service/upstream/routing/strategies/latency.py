"""`latency-based-routing`: where an answer is expected soonest.

What is expected is the average time of a deployment's answers, times the requests that are under way there and the new
one: so a deployment that stops answering is left before its first slow answer has come. Averages that nothing renews
fade, so that a deployment which was slow once is tried again. Where this process has had no answer for a while, those
of the others count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.upstream.routing.state import State
from service.upstream.routing.strategies.choice import lowest

#: Deployments that are at most so much slower than the fastest share the load with it.
_SLACK: Final = 1.15


class LatencyBased:
    """Goes by the answers of this process, and by those of others where it has none."""

    def choose(self, states: Sequence[State]) -> State:
        """One of the fastest."""
        expected = [state.expected for state in states]
        if not all(expected):
            # Of one that has not answered yet, the best is expected.
            best = min((state.latency for state in states if state.latency), default=1.0)
            expected = [state.expected or best * (state.busy + 1) for state in states]
        return lowest(states, expected, _SLACK)
