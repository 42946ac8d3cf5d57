"""The readers of this process; they outlive the connections that started them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Set
from typing import Protocol

from service.interactions.feed import Feed
from service.interactions.reader import Reader
from service.wire import ids

logger = logging.getLogger(__name__)


class OnEnd(Protocol):
    """Hears of a reader's end."""

    def __call__(self, reader: Reader, *, stopped: bool) -> None:
        """It is through, or was stopped."""


class Readers:
    """Owns the task of every reader."""

    def __init__(self) -> None:
        self._running: dict[bytes, tuple[Reader, asyncio.Task[None]]] = {}
        #: Called when a reader is through, or was stopped before that.
        self.on_end: OnEnd = _ignore

    def __len__(self) -> int:
        """How many streams are being read."""
        return len(self._running)

    def start(self, reader: Reader) -> Feed:
        """Let a reader run, which is forgotten when it is through; one that comes second is closed instead.

        Gives the feed of the one that runs.
        """
        key = reader.feed.key
        if (running := self._running.get(key)) is not None:
            logger.error("%s is being read already", ids.to_text(key))
            reader.close()
            return running[0].feed
        task = asyncio.get_running_loop().create_task(reader.run(), name="reader")
        self._running[key] = (reader, task)
        task.add_done_callback(lambda done: self._ended(reader, done))
        return reader.feed

    def feed(self, key: bytes) -> Feed | None:
        """The feed of an interaction that is being read here."""
        running = self._running.get(key)
        return None if running is None or running[0].feed.ended else running[0].feed

    def reader(self, key: bytes) -> Reader | None:
        """The reader of an interaction, if it is being read here."""
        running = self._running.get(key)
        return None if running is None else running[0]

    async def ended(self, key: bytes) -> None:
        """Wait until an interaction is not read here any more."""
        running = self._running.get(key)
        if running is not None:
            await asyncio.wait((running[1],))

    def keys(self) -> Set[bytes]:
        """The interactions that are being read here."""
        return self._running.keys()

    def concluding(self) -> set[bytes]:
        """The interactions whose end is being committed here, or has been."""
        return {key for key, (reader, _) in self._running.items() if reader.is_concluding}

    async def drop(self, keys: Set[bytes]) -> None:
        """Stop reading these, and wait until nothing of them is logged any more: they are another process's."""
        dropped = [self._running[key] for key in keys & self._running.keys()]
        for reader, task in dropped:
            reader.let_go()
            task.cancel()
        await asyncio.gather(*(task for _, task in dropped), return_exceptions=True)
        await asyncio.gather(*(reader.settled() for reader, _ in dropped))

    async def stop_background(self) -> None:
        """Stop reading what upstream goes on with by itself, and nobody listens to here."""
        running = [
            task
            for reader, task in self._running.values()
            if reader.job.intent.background and not reader.feed.listeners
        ]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def key_of(self, upstream_id: str) -> bytes | None:
        """The interaction that upstream calls so, if it is being read here."""
        for key, (reader, _) in self._running.items():
            if reader.feed.upstream_id == upstream_id:
                return key
        return None

    async def close(self, patience: float) -> None:
        """Give the readers ``patience`` seconds to finish, then stop the rest; their rows stay open."""
        tasks = [task for _, task in self._running.values()]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=patience)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _ended(self, reader: Reader, task: asyncio.Task[None]) -> None:
        del self._running[reader.feed.key]
        if not reader.feed.ended:
            # It was stopped before its first step.
            reader.close()
            reader.feed.end(broken=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a reader failed", exc_info=error)
        self.on_end(reader, stopped=task.cancelled())


def _ignore(reader: Reader, *, stopped: bool) -> None:
    """Nobody asks."""
