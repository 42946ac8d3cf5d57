"""What goes on in this process, ended for whoever asks: a client here, or another process for its own.

A client that cancels waits for the end that is committed, so upstream is told once, whoever asks for it meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager
from typing import Final, Protocol

from service.errors import ServiceError
from service.interactions.life import Life
from service.interactions.polling import Polling
from service.interactions.reader import Reader
from service.interactions.readers import Readers
from service.wire import ids

logger = logging.getLogger(__name__)

#: Seconds between two looks whether a create that is to be cancelled has its answer, and how many there are.
_LOOKED: Final = 0.05
_LOOKS: Final = 100


class LateAnswers(Protocol):
    """The answers that upstream gives too late for whoever has asked, as long as they are waited for."""

    def waits_for(self, key: bytes) -> bool:
        """Whether the answer of an interaction is waited for."""

    async def cancel(self, key: bytes) -> bool:
        """Wait no longer for it, and end the interaction as cancelled; False when none is waited for."""


class Cancellations:
    """One per process."""

    def __init__(self, life: Life, readers: Readers, polling: Polling) -> None:
        self._life = life
        self._readers = readers
        self._polling = polling
        self._running: dict[bytes, asyncio.Task[None]] = {}
        #: What is waited for by whoever creates, and is made after this.
        self.late: LateAnswers | None = None

    def reads(self, key: bytes) -> bool:
        """Whether an interaction is being read here."""
        return self._readers.reader(key) is not None

    def waits_for(self, key: bytes) -> bool:
        """Whether the answer of an interaction is late and is waited for here."""
        return self.late is not None and self.late.waits_for(key)

    def ending(self, key: bytes) -> AbstractContextManager[None]:
        """Meanwhile no reader of an interaction begins: it could log events behind the end that is being committed."""
        return self._polling.ending(key)

    async def has_begun(self, key: bytes) -> bool:
        """Whether no create of this process is on its way to an answer that is not late; waits for that a while."""
        for _ in range(_LOOKS):
            if key not in self._life.working or self.reads(key) or self.waits_for(key):
                return True
            await asyncio.sleep(_LOOKED)
        return False

    async def cancel_read(self, key: bytes, headers: bytes = b"") -> bool:
        """Cancel an interaction that is being read here, and wait for its end; False when it is not.

        Raises :class:`~service.errors.ServiceError` when upstream refuses to end a background run: then it goes on.
        """
        reader = self._readers.reader(key)
        if reader is None:
            return False
        task = self._running.get(key)
        if task is None and not reader.is_ending:
            task = asyncio.get_running_loop().create_task(self._cancel(reader, headers), name="cancellation")
            self._running[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        if task is not None:
            await asyncio.shield(task)
        await self._readers.ended(key)
        return True

    async def cancel_late(self, key: bytes) -> bool:
        """End an interaction whose answer is late and is waited for here, and wait for its end; False when none is."""
        return self.late is not None and await self.late.cancel(key)

    async def as_wished(self, key: bytes) -> None:
        """End what is being read here for another process, which tells its wish again where that fails."""
        try:
            await self.cancel_read(key)
        except ServiceError as error:
            logger.info("%s is not cancelled yet: %s", ids.to_text(key), error)

    async def _cancel(self, reader: Reader, headers: bytes) -> None:
        reader.cancelling = True
        try:
            told = await self._polling.cancelled(reader, headers)
        except BaseException:
            reader.cancelling = False
            raise
        reader.cancel(told)

    def _ended(self, key: bytes, task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled():
            # Whoever waits gets it.
            task.exception()
