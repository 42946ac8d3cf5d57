"""The digests of requests as the domain sees them: find by one, and the passes in which they are made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from service.store import recordings, retention
from service.store.entries import Write
from service.store.statement import Fetch
from service.store.writer import Writer
from service.wire import ids

#: Milliseconds of keys that every pass goes back.
_LATE: Final = 30_000
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Undigested:
    """An interaction that a pass comes to; ``known`` says that its request has a digest."""

    id: bytes
    project_id: bytes
    previous_id: bytes | None
    known: bool


class KeptRecordings:
    """Reads and writes of digests; every method raises :class:`~service.errors.ServiceUnavailable`."""

    def __init__(self, fetch: Fetch, writer: Writer) -> None:
        self._fetch = fetch
        self._writer = writer

    async def find(self, project_id: bytes, digest: bytes, *, stream: bool) -> bytes | None:
        """The interaction of the project that answers a request with this digest."""
        parameters = {"project_id": project_id, "digest": digest, "stream": stream}
        rows = await self._fetch(recordings.RECORDED, parameters)
        return rows[0][0] if rows else None

    async def digest(self, key: bytes) -> bytes | None:
        """The digest of an interaction's request, if it has been made."""
        rows = await self._fetch(recordings.DIGEST, {"id": key})
        return rows[0][0] if rows else None

    async def mark(self) -> bytes | None:
        """How far earlier passes have come; None before the first."""
        rows = await self._fetch(recordings.POSITION, {"name": recordings.MARK})
        return rows[0][0] if rows else None

    async def page(self, after: bytes) -> list[Undigested]:
        """The interactions behind a key; fewer than :data:`service.store.recordings.PAGE` at the end."""
        rows = await self._fetch(recordings.UNDIGESTED, {"after": after})
        return [
            Undigested(key, project, previous, known is not None) for key, project, previous, known in rows
        ]

    async def add(self, digests: Mapping[bytes, bytes], position: bytes, mark: bytes | None) -> None:
        """Commit digests by interaction, and that the pass has come so far from where the ``mark`` was."""
        moved: Write = (recordings.SET_MARK, (position, recordings.MARK))
        if mark is not None:
            moved = (recordings.MOVE_MARK, (position, recordings.MARK, mark))
        writes: list[Write] = [(recordings.INSERT_RECORDING, row) for row in digests.items()]
        await self._writer.put(*writes, moved, patience=_PATIENCE, shed=True)


def brought_in(keys: Collection[bytes]) -> list[Write]:
    """What lets whatever goes through all interactions come to these, which come in with keys of an earlier time."""
    if not keys:
        return []
    before = (max(int.from_bytes(min(keys), "big") - 1, 0)).to_bytes(16, "big")
    lower: list[Write] = [
        (recordings.LOWER_MARK, (before, name)) for name in (recordings.MARK, retention.MARK)
    ]
    return [*lower, *((recordings.FORGET_BELOW, (key,)) for key in keys)]


def start_of_pass(mark: bytes | None) -> bytes:
    """The key behind which a pass begins."""
    milliseconds = 0 if mark is None else max(ids.created_at(mark) - _LATE, 0)
    return (milliseconds << 80).to_bytes(16, "big")
