"""Expiry as the domain sees it: what is there to be judged, expire it, and give back the space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.store import recordings, retention
from service.store.backend import Backend
from service.store.deletion import LOCK_HELD
from service.store.entries import Write
from service.store.eraser import Eraser
from service.store.kept_holds import labels_of
from service.store.statement import Fetch
from service.store.writer import Writer

_PATIENCE: Final = 60.0
_FIRST: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Living:
    """An interaction that is not deleted, as rules of retention look at it.

    ``ended`` says that nothing more comes of it, ``derived`` that everything has been derived from it; ``size`` is of
    its bodies in bytes.
    """

    id: bytes
    project_id: bytes
    labels: dict[str, Any]
    ended: bool
    derived: bool
    size: int


class Retained:
    """Reads and writes of retention; every method raises :class:`~service.errors.ServiceUnavailable`."""

    def __init__(self, backend: Backend, fetch: Fetch, writer: Writer, eraser: Eraser) -> None:
        self._backend = backend
        self._fetch = fetch
        self._writer = writer
        self._eraser = eraser

    async def living(self, after: bytes, before: bytes) -> list[Living]:
        """A page of what is between two keys; fewer than :data:`service.store.retention.PAGE` at the end."""
        rows = await self._fetch(retention.LIVING, {"after": after, "before": before})
        return [
            Living(key, project_id, labels_of(labels), bool(ended), bool(derived), size)
            for key, project_id, labels, ended, derived, size in rows
        ]

    async def expire(self, keys: Sequence[bytes], at: int, holds: int) -> None:
        """Let interactions expire that were chosen while there were so many holds; none of them when there are more."""
        writes: list[Write] = [(LOCK_HELD, (key,)) for key in keys]
        writes += [(retention.EXPIRE, (key, at, holds)) for key in keys]
        if writes:
            await self._writer.put(*writes, patience=_PATIENCE)

    async def mark(self) -> bytes:
        """The key before which nothing is left to be judged."""
        rows = await self._fetch(recordings.POSITION, {"name": retention.MARK})
        return rows[0][0] if rows else _FIRST

    async def move_mark(self, mark: bytes, position: bytes) -> None:
        """Move it on, unless it has been moved since it was read as ``mark``."""
        moved: Write = (recordings.SET_MARK, (position, retention.MARK))
        if mark != _FIRST:
            moved = (recordings.MOVE_MARK, (position, retention.MARK, mark))
        await self._writer.put(moved, patience=_PATIENCE)

    async def lower_mark(self, position: bytes) -> None:
        """Move it back, unless it is there already."""
        await self._writer.put((recordings.LOWER_MARK, (position, retention.MARK)), patience=_PATIENCE)

    async def erase(self, at: int) -> int:
        """Erase what is deleted and needed by nothing; how many interactions that were."""
        return await self._eraser.sweep(at)

    async def give_back(self, *, whole: bool) -> int:
        """Give the space of what was erased back to the file system; how many bytes that were.

        With ``whole`` by rewriting the whole database, which nobody can write meanwhile.
        """
        return await self._backend.give_back(whole=whole)
