"""The bound on what runs at a time in one process; what is beyond it is refused at once and never queued."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import ServiceUnavailable


class Gate:
    """Lets ``limit`` creates in at a time, and whoever waits for one."""

    __slots__ = ("limit", "running", "shed")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        #: Creates refused since the start of the process.
        self.shed = 0

    def enter(self) -> None:
        """Let one in; raises :class:`ServiceUnavailable`, and then nothing of the request has happened."""
        if self.running >= self.limit:
            self.shed += 1
            raise ServiceUnavailable(
                f"The service runs {self.limit} creates already (general_settings.max_concurrent_requests); try again.",
                retry_after=1,
            )
        self.running += 1

    def leave(self) -> None:
        """One that was let in is over."""
        self.running -= 1

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for whoever waits for a create that another request has begun; raises as :meth:`enter` does."""
        self.enter()
        try:
            yield
        finally:
            self.leave()
