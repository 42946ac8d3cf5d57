"""Legal holds as the domain sees them: place, release, and what is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from service.store import holds
from service.store.deletion import LOCK_HELD
from service.store.entries import Write
from service.store.records import now, storable
from service.store.statement import Fetch
from service.store.writer import Writer
from service.wire import ids

_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: on one interaction, on all with a label (of one value, or any), or on the whole project."""

    id: bytes
    project_id: bytes
    interaction_id: bytes | None
    label: str | None
    label_value: str | None
    reason: str | None
    created_at: int
    released_at: int | None = None

    def covers(self, project_id: bytes, key: bytes, labels: dict[str, Any]) -> bool:
        """Whether it holds an interaction."""
        if project_id != self.project_id:
            return False
        if self.interaction_id is not None:
            return key == self.interaction_id
        if self.label is None:
            return True
        return self.label in labels and self.label_value in (None, labels[self.label])


@dataclass(frozen=True, slots=True)
class Holds:
    """All holds that stand, and how many there have ever been when they were read."""

    standing: Sequence[Hold]
    count: int

    def cover(self, project_id: bytes, key: bytes, labels: dict[str, Any]) -> bool:
        """Whether one of them holds an interaction."""
        return any(hold.covers(project_id, key, labels) for hold in self.standing)


class KeptHolds:
    """Reads and writes of holds; every method raises :class:`~service.errors.ServiceUnavailable`."""

    def __init__(self, fetch: Fetch, writer: Writer) -> None:
        self._fetch = fetch
        self._writer = writer

    async def place(
        self,
        project_id: bytes,
        *,
        key: bytes | None = None,
        label: str | None = None,
        label_value: str | None = None,
        reason: str | None = None,
    ) -> Hold:
        """Commit a hold: on an interaction, on a label, or else on the whole project.

        Nothing is held of an interaction that was deleted: whoever places a hold on one looks whether it stands.
        """
        hold = Hold(
            ids.mint(), project_id, key, storable(label), storable(label_value), storable(reason), now()
        )
        row = (
            hold.id,
            project_id,
            key,
            hold.label,
            hold.label_value,
            hold.reason,
            hold.created_at,
        )
        lock: list[Write] = [] if key is None else [(LOCK_HELD, (key,))]
        await self._writer.put(*lock, (holds.PLACE_HOLD, row), patience=_PATIENCE, shed=True)
        return hold

    async def release(self, hold: Hold) -> None:
        """Commit that a hold is no more."""
        await self._writer.put((holds.RELEASE_HOLD, (hold.id, now())), patience=_PATIENCE, shed=True)

    async def of_project(self, project_id: bytes) -> list[Hold]:
        """All holds of a project, the released ones as well, oldest first."""
        return [Hold(*row) for row in await self._fetch(holds.HOLDS_OF_PROJECT, {"project_id": project_id})]

    async def on(self, key: bytes) -> list[Hold]:
        """The holds that stand on an interaction, its own ones first."""
        found: list[Hold] = []
        for *members, labels in await self._fetch(holds.HOLDS_ON, {"id": key}):
            hold = Hold(*members)
            if hold.covers(hold.project_id, key, labels_of(labels)):
                found.append(hold)
        return sorted(found, key=lambda hold: hold.interaction_id is None)

    async def all(self) -> Holds:
        """All holds that stand in any project. The number is read first, so that it never counts one not seen."""
        count = await self.count()
        return Holds([Hold(*row) for row in await self._fetch(holds.STANDING, {})], count)

    async def count(self) -> int:
        """How many there have ever been."""
        count: int = (await self._fetch(holds.COUNT_HOLDS, {}))[0][0]
        return count

    async def project_names(self) -> dict[bytes, str]:
        """The names of all projects."""
        rows = await self._fetch(holds.PROJECT_NAMES, {})
        return {row[0]: row[1] for row in rows}


def labels_of(stored: str | None) -> dict[str, str]:
    """The labels of a row; what is no string there is none."""
    labels = orjson.loads(stored) if stored else {}
    if not isinstance(labels, dict):
        return {}
    return {name: value for name, value in labels.items() if isinstance(value, str)}
