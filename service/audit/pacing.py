"""How long the indexer rests between two pieces of work: nothing that is derived is worth a caller's wait.

Beside other work a short burst is let pass first, and what it leaves behind is caught up with afterwards. Under a load
that lasts, the rests get shorter the later the indexer is, down to what leaves most of the processor to the callers.
Those who read for a caller rest in a way of their own (:mod:`service.audit.courtesy`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: Shares of one processor that the rest of the process uses: up to the first it has nothing else to do, from the second
#: on it is busy.
_QUIET: Final = 0.1
_BUSY: Final = 0.6
#: How many times as long as it worked the indexer rests: with nothing else to do; beside other work while it is not
#: late; when it is late by :data:`_LATE` seconds, and when it is that in a busy process.
_ALONE: Final = 2.0
_GENTLE: Final = 24.0
_AT_LEAST: Final = 2.0
_AT_LEAST_BUSY: Final = 9.0
_LATE: Final = 60.0
_LONGEST: Final = 1.0


class Pacing:
    """Of one indexer; between :meth:`rest` and :meth:`rested` it must not work.

    ``used`` tells the seconds of processor time that the process has used, ``clock`` the time in seconds.
    """

    def __init__(
        self, *, used: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._used_now = used
        self._clock = clock
        self._share = 0.0
        self._used = 0.0
        self._since = 0.0

    @property
    def alone(self) -> bool:
        """Whether the process has had nothing else to do lately."""
        return self._share <= _QUIET

    def rest(self, worked: float, late: float) -> float:
        """The seconds to rest after ``worked`` seconds of work, the oldest of which was ``late`` seconds old."""
        self._used, self._since = self._used_now(), self._clock()
        if self.alone:
            times = _ALONE
        else:
            least = _AT_LEAST_BUSY if self._share >= _BUSY else _AT_LEAST
            times = _GENTLE + (least - _GENTLE) * min(1.0, max(0.0, late) / _LATE)
        return min(_LONGEST, worked * times)

    def rested(self) -> None:
        """The rest is over: what the process has used meanwhile was for others."""
        elapsed = self._clock() - self._since
        if elapsed > 0:
            self._share = (self._used_now() - self._used) / elapsed

    def idle(self) -> None:
        """Nothing waits."""
        self._share = 0.0
