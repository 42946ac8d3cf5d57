"""Export: everything that filters select, oldest first, read a part at a time so that memory does not grow with it.

Each part is a snapshot of its own. What is written meanwhile has larger keys and is exported when its turn comes; an
interaction that ends after it was exported is exported as it stood. An export goes on behind the last interaction that
somebody has of it, by its id.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from sqlalchemy import select

from service.audit import cursors
from service.audit.filters import Filters
from service.audit.lines import COLUMNS, EventRow, Whole
from service.audit.listing import read_page
from service.errors import InvalidRequest, StoreError
from service.store.codec import Codec
from service.store.reports import Reading, Reports, Rows
from service.store.store import Store
from service.store.tables import (
    REQUEST_PAYLOAD,
    RESPONSE_PAYLOAD,
    events,
    interactions,
    payloads,
    projects,
)
from service.wire import ids

#: Interactions of one part, and bytes of their bodies (but for a larger one alone).
_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 8 * 1024 * 1024
#: Streams whose logs are read at once; how large those are is not known before.
_LOGS_AT_ONCE: Final = 64
_ORDER: Final = "asc"
_SELECTED: Final = tuple(name for name in COLUMNS if name != "id")

_NAMES: Final = ("id", "project_id", *_SELECTED)

_Row = dict[str, Any]


class Export:
    """Exports the interactions of one project at a time (promise P6)."""

    def __init__(self, store: Store, reports: Reports, packing: Codec) -> None:
        self._store = store
        self._reports = reports
        self._packing = packing

    async def parts(
        self, project_id: bytes, filters: Filters, after: str | None = None
    ) -> AsyncIterator[list[Whole]]:
        """Everything the filters select, behind the interaction with the id ``after``, some at a time.

        Raises :class:`~service.errors.ServiceError`: :class:`InvalidRequest` for an id that is none.
        """
        about = _ORDER.encode() + project_id + filters.digest()
        cursor = None if after is None else cursors.write(_key(after), about)
        names: dict[bytes, str] = {}
        columns = [
            interactions.c.id,
            interactions.c.project_id,
            *(interactions.c[name] for name in _SELECTED),
        ]
        while True:
            async with self._reports.reading() as reading:
                names = names or await _project_names(reading)
                page = await read_page(
                    reading, columns, project_id, filters, order=_ORDER, limit=_AT_ONCE, cursor=cursor
                )
            rows = [dict(zip(_NAMES, row, strict=True)) for row in page.rows]
            for part in _bounded(rows):
                yield await self._whole(part, names)
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def _whole(self, rows: Sequence[_Row], names: dict[bytes, str]) -> list[Whole]:
        told = [row for row in rows if row["deleted_at"] is None]
        streams = [row["id"] for row in told if row["stream"]]
        async with self._reports.reading() as reading:
            bodies = await _bodies(reading, [row["id"] for row in told])
            logs: list[Sequence[Any]] = []
            for start in range(0, len(streams), _LOGS_AT_ONCE):
                logs += await _logs(reading, streams[start : start + _LOGS_AT_ONCE])
        unpacked = await asyncio.to_thread(self._packing.unpack_all, [tuple(row[2:5]) for row in bodies])
        by_place = {(row[0], row[1]): body for row, body in zip(bodies, unpacked, strict=True)}
        by_stream = await asyncio.to_thread(self._events, logs)
        return [await self._one(row, by_place, by_stream, names) for row in rows]

    async def _one(
        self,
        row: _Row,
        bodies: dict[tuple[bytes, int], bytes],
        logs: dict[bytes, list[EventRow]],
        names: dict[bytes, str],
    ) -> Whole:
        key = row["id"]
        request, damage = bodies.get((key, REQUEST_PAYLOAD)), None
        if request is not None and len(request) < row["request_bytes"]:
            # It is stored without what an earlier one has.
            try:
                request = await self._store.request_of(key)
            except StoreError as error:
                request, damage = None, error.message
        response = bodies.get((key, RESPONSE_PAYLOAD))
        project_id = row.pop("project_id")
        return Whole(row, project_id, names.get(project_id), request, response, logs.get(key, ()), damage)

    def _events(self, logs: Sequence[Sequence[Any]]) -> dict[bytes, list[EventRow]]:
        frames = self._packing.unpack_all([tuple(row[3:6]) for row in logs])
        found: dict[bytes, list[EventRow]] = defaultdict(list)
        for (key, first, last, *_, cursor, timings), body in zip(logs, frames, strict=True):
            found[key].append(EventRow(first, last, body, cursor, timings))
        return found


def _key(after: str) -> bytes:
    key = ids.from_text(after)
    if key is None:
        raise InvalidRequest(
            f"The value {after[:100]!r} is invalid for 'cursor'. Expected the id of the last interaction that arrived "
            "whole (int_...)."
        )
    return key


def _bounded(rows: Sequence[_Row]) -> list[list[_Row]]:
    """The rows in parts whose bodies fit into memory."""
    parts: list[list[_Row]] = []
    size = 0
    for row in rows:
        own = (row["request_bytes"] or 0) + (row["response_bytes"] or 0)
        if not parts or size + own > _BYTES_AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(row)
        size += own
    return parts


async def _bodies(reading: Reading, keys: Sequence[bytes]) -> Rows:
    if not keys:
        return []
    columns = (
        payloads.c.interaction_id,
        payloads.c.kind,
        payloads.c.codec,
        payloads.c.size,
        payloads.c.body,
    )
    return await reading.fetch(select(*columns).where(payloads.c.interaction_id.in_(list(keys))))


async def _logs(reading: Reading, keys: Sequence[bytes]) -> Rows:
    columns = (
        events.c.interaction_id,
        events.c.first_seq,
        events.c.last_seq,
        events.c.codec,
        events.c.size,
        events.c.body,
        events.c.upstream_cursor,
        events.c.timings,
    )
    chosen = select(*columns).where(events.c.interaction_id.in_(list(keys)))
    return await reading.fetch(chosen.order_by(events.c.interaction_id, events.c.first_seq))


async def _project_names(reading: Reading) -> dict[bytes, str]:
    return {row[0]: row[1] for row in await reading.fetch(select(projects.c.id, projects.c.name))}
