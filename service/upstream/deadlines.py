"""Time limits of the answers of upstream, all by one timer."""

from __future__ import annotations

import asyncio
from typing import Final

from service.upstream.connection import Connection

#: Seconds between two looks at the time limits.
_STEP: Final = 0.1
_SILENT: Final = "upstream was silent for too long"


class Deadlines:
    """Tells of answers that take too long, with one timer for all of them.

    A timer for each request, or for each piece of a stream, costs more than the rest of its bookkeeping; nobody needs
    an upstream time limit that is exact to a fraction of a second.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[Connection, float] = {}
        self._silences: dict[Connection, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection, seconds: float) -> None:
        """Bound the whole answer."""
        self._due[connection] = self._loop.time() + seconds
        if self._timer is None:
            self._start()

    def add_silence(self, connection: Connection, seconds: float) -> None:
        """Bound the time from now, or from what comes, to what comes next."""
        connection.heard = self._loop.time()
        self._silences[connection] = seconds
        if self._timer is None:
            self._start()

    def forget_silence(self, connection: Connection) -> None:
        """Bound the whole answer alone."""
        self._silences.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Bound nothing of this answer any more."""
        self._due.pop(connection, None)
        self._silences.pop(connection, None)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        self._timer = self._loop.call_later(_STEP, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        late = [connection for connection, due in self._due.items() if due <= now]
        late += [
            connection for connection, limit in self._silences.items() if now - connection.heard >= limit
        ]
        # Both limits may have passed since the last look, and who is told of that is told once.
        for connection in dict.fromkeys(late):
            self.remove(connection)
            connection.time_out(_SILENT)
        self._timer = None
        if self._due or self._silences:
            self._start()
