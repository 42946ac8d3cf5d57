"""Reconciliation: what came in, what went out and what is in the store, counted per interval, and what does not fit.

Everything of the time asked for is read, a page at a time, bodies of the event log included: the figures are counted
from the rows themselves and from nothing that was counted before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from service.audit.conditions import moment_of
from service.audit.mismatches import LogShape, Mismatch, mismatches
from service.audit.reconciliation_rows import (
    BATCHES,
    BATCHES_BETWEEN,
    ORPHANS,
    OVERDUE,
    PAGE,
    ROWS,
    ROWS_OF_PROJECT,
    Row,
    row_of,
)
from service.store.codec import Codec
from service.store.records import USAGE_FINAL, USAGE_MISSING, USAGE_PARTIAL, now
from service.store.statement import Fetch
from service.wire import ids

_SECOND: Final = 1_000_000
_LAST_KEY: Final = b"\xff" * 16
#: Seconds that an open interaction may be silent without a process that has it, and a webhook may wait for its try.
GRACE: Final = 60.0
_USAGE: Final = {USAGE_FINAL: "final", USAGE_PARTIAL: "partial", USAGE_MISSING: "missing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is asked for: times in microseconds since the epoch, and the length of an interval in seconds."""

    start: int
    end: int
    interval: int

    def interval_of(self, key: bytes) -> int:
        """When the interval began that an interaction is of."""
        length = self.interval * _SECOND
        return moment_of(key) // length * length


@dataclass(slots=True)
class Figures:
    """What an interval has."""

    start: int
    accepted: int = 0
    attempts: int = 0
    open: int = 0
    events: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row, log: LogShape | None) -> None:
        """Count an interaction."""
        self.accepted += 1
        self.attempts += len(row.attempts)
        self.events += log.events if log is not None else 0
        if row.completed_at is None:
            self.open += 1
            return
        self.outcomes[row.status] += 1
        if (state := _USAGE.get(row.usage_state)) is not None:
            self.usage[state] += 1

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "start": self.start // _SECOND,
            "accepted": self.accepted,
            "attempts": self.attempts,
            "outcomes": dict(sorted(self.outcomes.items())),
            "open": self.open,
            "usage": {name: self.usage[name] for name in _USAGE.values()},
            "events": self.events,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of each interval that has any, oldest first, and every mismatch."""

    span: Span
    figures: Sequence[Figures]
    mismatches: Sequence[Mismatch]

    def shown(self) -> dict[str, Any]:
        """As JSON; times are seconds since the epoch."""
        return {
            "from": self.span.start // _SECOND,
            "to": self.span.end // _SECOND,
            "interval": self.span.interval,
            "intervals": [figures.shown() for figures in self.figures],
            "mismatches": [
                {"id": ids.to_text(found.id), "reason": found.reason, "detail": found.detail}
                for found in self.mismatches
            ],
        }


class Reconciliation:
    """Compares what the store has; every method raises as ``fetch`` does."""

    def __init__(self, fetch: Fetch, codec: Codec, *, grace: float = GRACE) -> None:
        self._fetch = fetch
        self._codec = codec
        self._grace = int(grace * _SECOND)

    async def report(self, span: Span, project_id: bytes | None = None) -> Report:
        """What was created in a span: of one project, or of all with what belongs to none."""
        figures: dict[int, Figures] = {}
        found: list[Mismatch] = []
        abandoned_before = now() - self._grace
        async for row, log in self._rows(span, project_id):
            start = span.interval_of(row.id)
            figures.setdefault(start, Figures(start)).add(row, log)
            found += mismatches(row, log, abandoned_before)
        found += await self._overdue(span, project_id)
        if project_id is None:
            found += await self._orphans(span)
        return Report(span, [figures[start] for start in sorted(figures)], found)

    async def _rows(self, span: Span, project_id: bytes | None) -> AsyncIterator[tuple[Row, LogShape | None]]:
        after, last = _key_at(span.start), _key_at(span.end)
        query = ROWS if project_id is None else ROWS_OF_PROJECT
        while True:
            parameters = {"first": after, "last": last, "project_id": project_id}
            page = [row_of(values) for values in await self._fetch(query, parameters)]
            logs = await self._logs(page[0].id, page[-1].id) if page else {}
            for row in page:
                yield row, logs.get(row.id)
            if len(page) < PAGE:
                return
            after = page[-1].id

    async def _logs(self, first: bytes, last: bytes) -> dict[bytes, LogShape]:
        """The shape of every log between two keys; no more than one page of bodies is held at a time."""
        shapes: dict[bytes, LogShape] = {}
        behind, behind_seq = first, -1
        while True:
            parameters = {"first": first, "last": last, "behind": behind, "behind_seq": behind_seq}
            batches = await self._fetch(BATCHES_BETWEEN, parameters)
            await asyncio.to_thread(self._add, shapes, batches)
            if len(batches) < BATCHES:
                return shapes
            behind, behind_seq = batches[-1][0], batches[-1][1]

    def _add(self, shapes: dict[bytes, LogShape], batches: Sequence[Sequence[Any]]) -> None:
        for key, first_seq, last_seq, codec, size, body in batches:
            shape = shapes.setdefault(key, LogShape())
            shape.add(first_seq, last_seq, self._codec.unpack(codec, size, body))

    async def _overdue(self, span: Span, project_id: bytes | None) -> list[Mismatch]:
        parameters = {
            "first": _key_at(span.start),
            "last": _key_at(span.end),
            "overdue": now() - self._grace,
        }
        rows = await self._fetch(OVERDUE, parameters)
        return [
            Mismatch(key, "webhook_overdue", f"{uri} was to be told, and {tries} tries were made")
            for key, owner, uri, tries in rows
            if project_id in (None, owner)
        ]

    async def _orphans(self, span: Span) -> list[Mismatch]:
        parameters = {"first": _key_at(span.start), "last": _key_at(span.end)}
        found: list[Mismatch] = []
        for table, query in ORPHANS.items():
            keys = dict.fromkeys(key for (key,) in await self._fetch(query, parameters))
            found += [Mismatch(key, "interaction_missing", f"{table} has rows of it") for key in keys]
        return found


def _key_at(moment: int) -> bytes:
    """A key that is smaller than every one minted at this time or later."""
    milliseconds = moment // 1000
    return (milliseconds << 80).to_bytes(16, "big") if milliseconds < 1 << 48 else _LAST_KEY
