"""How often, and for how long, an interaction that runs is looked at until it has ended."""

from __future__ import annotations

import time
from typing import Final

from service.sdk.errors import (
    ConnectionFailed,
    ConnectionLost,
    InteractionsError,
    RateLimited,
    RequestTimeout,
    ServiceFailed,
    WaitTimeout,
)

#: Upstream has been seen to call an interaction running for days (contract 3.4): no wait is for ever by default.
PATIENCE: Final = 7_200.0
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0
#: Seconds that one look may take, and that it gets however little of the wait is left.
_LONGEST_LOOK: Final = 60.0
_SHORTEST_LOOK: Final = 1.0
#: What may be otherwise at the next look, and how many such failures in a row are borne.
_PASSING: Final = (ConnectionFailed, ConnectionLost, RequestTimeout, RateLimited, ServiceFailed)
_FAILURES: Final = 10


class Pace:
    """The pauses between the looks of one wait."""

    def __init__(self, interaction_id: str, timeout: float | None) -> None:
        self._interaction_id = interaction_id
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._pause = _FIRST_PAUSE
        self._failures = 0

    def look(self) -> float:
        """Seconds that the next look may take."""
        if self._deadline is None:
            return _LONGEST_LOOK
        return min(_LONGEST_LOOK, max(_SHORTEST_LOOK, self._deadline - time.monotonic()))

    def seen(self, status: str) -> float:
        """Seconds until the next look after one that found this status; raises :class:`WaitTimeout`."""
        self._failures = 0
        return self._next(self._pause, f"its status is {status!r}")

    def failed(self, error: InteractionsError) -> float:
        """Seconds until the next look after one that failed; raises the error when it will not pass."""
        self._failures += 1
        if not isinstance(error, _PASSING) or self._failures >= _FAILURES:
            raise error
        return self._next(max(self._pause, error.retry_after or 0.0), f"it could not be asked for: {error}")

    def _next(self, pause: float, how: str) -> float:
        self._pause = min(1.5 * self._pause, _LONGEST_PAUSE)
        if self._deadline is None:
            return pause
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(
                f"The interaction {self._interaction_id!r} has not ended within {self._timeout:g} seconds: {how}. It "
                "goes on; wait again, or cancel it.",
                interaction_id=self._interaction_id,
            )
        return min(pause, left)
