"""What interactions cost that the indexer has not come to, worked out for whoever reads them.

An interaction is priced once, behind its end. Who lists or exports it before that is told the same, and not that its
price is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import literal, select

from service.audit import gathering, summaries
from service.audit.derivation import NOTHING, USAGE_CAME
from service.audit.measures import TOLD
from service.audit.prices import Prices
from service.store.codec import Codec
from service.store.reports import Reading
from service.store.statement import named_keys
from service.store.tables import Key, interactions

_AT_ONCE: Final = 64
_COLUMNS: Final = [interactions.c[name] for name in gathering.COLUMNS]
_WAITING: Final = (NOTHING, USAGE_CAME)
_TOLD_BY: Final = ("derived_state", "completed_at", "usage_state", "cost_nanos")


class Figures(NamedTuple):
    """What the indexer will write into the row."""

    cost_nanos: int | None
    usage_detail: str | None


class LateFigures:
    """Works them out."""

    def __init__(self, packing: Codec, prices: Prices) -> None:
        self._gathering = gathering.Gathering(packing, prices)

    async def summaries(self, reading: Reading, rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        """Summaries of rows of :data:`service.audit.summaries.COLUMNS`, with their costs."""
        late = await self.of(reading, rows, OF_SUMMARIES)
        return [summaries.of_row(row, late[row[0]].cost_nanos if row[0] in late else None) for row in rows]

    async def of(
        self, reading: Reading, told: Sequence[Sequence[Any]], places: Sequence[int]
    ) -> Mapping[bytes, Figures]:
        """What rows that begin with their keys lack, by these; ``places`` are those of :func:`places_in`."""
        derived_state, completed_at, usage_state, cost = places
        # What has ended, has used something and waits for the indexer; most wait for nothing, which one look tells.
        waiting = [row for row in told if row[derived_state] in _WAITING]
        keys = [
            row[0]
            for row in waiting
            if row[completed_at] is not None and row[usage_state] in TOLD and row[cost] is None
        ]
        found: dict[bytes, Figures] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            named = interactions.c.id.in_([literal(key, Key) for key in some])
            rows = gathering.rows_of(await reading.fetch(select(*_COLUMNS).where(named)))
            by_key = {row["id"]: row for row in rows}
            for fitting in gathering.by_size(rows, "response_bytes"):
                bodies = await reading.ask(gathering.answers(len(fitting)), named_keys(fitting))
                found |= await asyncio.to_thread(self._worked_out, [by_key[key] for key in fitting], bodies)
        return found

    def _worked_out(
        self, rows: Sequence[gathering.Row], bodies: Sequence[Sequence[Any]]
    ) -> dict[bytes, Figures]:
        by_key = {body[0]: body for body in bodies}
        return {row["id"]: Figures(*self._gathering.figures(row, by_key.get(row["id"]))) for row in rows}


def places_in(names: Sequence[str]) -> tuple[int, ...]:
    """Where, in a row of columns with these names, it stands whether its figures are lacking."""
    return tuple(map(names.index, _TOLD_BY))


#: The same in a row of :data:`service.audit.summaries.COLUMNS`.
OF_SUMMARIES: Final = places_in(summaries.NAMES)
