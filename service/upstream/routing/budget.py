"""How many retries a process may add to its traffic, so that an outage is not multiplied.

Official clients retry four or five times themselves (contract 7.5). Whatever every request is allowed, all of them
together may add a tenth to the traffic of the last seconds, and a few more so that a quiet service can retry at all: by
default as many as the failures of one deployment until it rests, and its probes while it does.
"""

from __future__ import annotations

from math import exp
from typing import Final

#: Retries for each request.
RATIO: Final = 0.1
#: Seconds after which traffic counts for a third of what it did.
WINDOW: Final = 10.0


class RetryBudget:
    """Counts requests and retries, both fading with time; ``allowance`` retries within the window need no traffic.

    Every method takes the time in seconds.
    """

    __slots__ = ("_allowance", "_at", "_requests", "_retries", "refused", "spent")

    def __init__(self, allowance: int) -> None:
        self._allowance = allowance
        self._requests = 0.0
        self._retries = 0.0
        self._at = 0.0
        #: Retries allowed and refused since the start of the process.
        self.spent = 0
        self.refused = 0

    def request(self) -> None:
        """A request came in. What came before it fades when a retry asks, so that this costs nothing."""
        self._requests += 1.0

    def retry(self, now: float) -> bool:
        """Whether one more retry is allowed; if so it is counted."""
        self._fade(now)
        if self._retries + 1.0 > self._allowance + RATIO * self._requests:
            self.refused += 1
            return False
        self._retries += 1.0
        self.spent += 1
        return True

    def tick(self, now: float) -> None:
        """Let the past fade; to be called every second or so."""
        self._fade(now)

    def _fade(self, now: float) -> None:
        if self._at and now > self._at:
            kept = exp((self._at - now) / WINDOW)
            self._requests *= kept
            self._retries *= kept
        self._at = now
