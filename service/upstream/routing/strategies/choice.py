"""What a strategy is, and what several of them share."""

from __future__ import annotations

from collections.abc import Sequence
from random import SystemRandom
from typing import Final, Protocol

from service.upstream.routing.state import State

CHANCE: Final = SystemRandom()


class Strategy(Protocol):
    """Chooses one of the deployments that could serve a request; there are two at least."""

    def choose(self, states: Sequence[State]) -> State:
        """The one that the request goes to."""


def lowest(states: Sequence[State], values: Sequence[float], slack: float = 1.0) -> State:
    """One of those whose value is at most ``slack`` times the lowest, by chance."""
    bound = min(values) * slack
    near = [state for state, value in zip(states, values, strict=True) if value <= bound]
    return near[0] if len(near) == 1 else near[int(CHANCE.random() * len(near))]
