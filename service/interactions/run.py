"""An open interaction that this process holds and does not read: when upstream is asked about it next."""

from __future__ import annotations

import random
from asyncio import Task
from dataclasses import dataclass
from math import inf
from typing import Final

from service.store.held import Claim

_GROWTH: Final = 1.5
#: The part by which a pause is shorter or longer than its neighbours', so that questions spread.
_JITTER: Final = 0.2
_CHANCE: Final = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Pacing:
    """Seconds between two questions about one interaction: the first pause, and the longest."""

    first: float
    longest: float

    def after(self, pause: float) -> float:
        """The pause that follows on this one."""
        return min(max(pause, self.first) * _GROWTH, self.longest)


@dataclass(slots=True, eq=False)
class Run:
    """What is known of it between two questions."""

    claim: Claim
    pause: float
    #: Whether upstream may have a stream of it.
    may_stream: bool
    #: When it is given up; of the loop's clock, which nobody sets.
    ends_at: float = inf
    cancel_wished: bool = False
    #: When upstream said first, and ever since, that there is no such interaction; of the loop's clock.
    missing_since: float | None = None
    #: A hash of what upstream said last.
    said: int = 0
    #: Which of its places in the schedule counts.
    place: int = 0
    polling: Task[None] | None = None

    @property
    def key(self) -> bytes:
        """The interaction."""
        return self.claim.id


def jittered(pause: float) -> float:
    """A pause a little shorter or longer."""
    return pause * _CHANCE.uniform(1 - _JITTER, 1 + _JITTER)


def spread(pause: float) -> float:
    """Any part of a pause."""
    return _CHANCE.uniform(0, pause)
