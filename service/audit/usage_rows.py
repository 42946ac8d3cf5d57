"""What usage reports add up that no roll-up has: interactions that wait to be derived from, and ends of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, TextClause, literal, select

from service.audit import gathering, measures
from service.audit.conditions import key_from, moment_of
from service.audit.derivation import NOTHING, USAGE_CAME
from service.audit.gathering import WAITING
from service.audit.groups import OF_INTERACTIONS, Groups
from service.audit.intervals import Pieces
from service.audit.prices import Prices
from service.store.reports import Reading
from service.store.statement import named_keys
from service.store.tables import Key, interactions, series

_PAGE: Final = 500


class UsageRows:
    """Adds interactions to the groups of a report."""

    def __init__(self, reading: Reading, groups: Groups, reader: gathering.Gathering, prices: Prices) -> None:
        self._reading = reading
        self._groups = groups
        self._reader = reader
        self._prices = prices

    async def edges(self, ranges: Sequence[tuple[int, int]]) -> None:
        """All that have ended within these ranges of time."""
        for start, end in ranges:
            await self._add(start, end, in_rollups=False)

    async def waiting(self, pieces: Pieces) -> None:
        """Those that wait within what the roll-ups cover."""
        for start, end in pieces.derived():
            await self._add(start, end, WAITING, in_rollups=True)

    async def _add(
        self, start: int, end: int, *conditions: ColumnElement[bool] | TextClause, in_rollups: bool
    ) -> None:
        after = _key_before(start)
        while rows := await self._reading.fetch(self._page(after, key_from(end), conditions)):
            width = len(gathering.COLUMNS)
            told = gathering.rows_of([row[:width] for row in rows])
            details = await self._details(told)
            for row, it in zip(rows, told, strict=True):
                self._add_row(it, row[width:], details.get(it["id"]), in_rollups=in_rollups)
            after = told[-1]["id"]

    def _add_row(
        self, it: dict[str, Any], values: Sequence[Any], response: bytes | None, *, in_rollups: bool
    ) -> None:
        sums = self._groups.of(values, moment_of(it["id"]))
        if sums is None or not gathering.is_counted(it):
            return
        modalities = gathering.modalities_of(gathering.usage_detail(it, response))
        if it["derived_state"] in (NOTHING, USAGE_CAME):
            it["cost_nanos"] = self._prices.of_row(it, modalities)
        late = in_rollups and gathering.is_late(it)
        sums.add((measures.of_late_usage if late else measures.of_outcome)(it, modalities))

    def _page(
        self, after: bytes, before: bytes, conditions: Sequence[ColumnElement[bool] | TextClause]
    ) -> Select[Any]:
        # With one bound on each side: of two, SQLite may begin at the one that is further away.
        return (
            select(
                *(interactions.c[name] for name in gathering.COLUMNS), *self._groups.columns(OF_INTERACTIONS)
            )
            .select_from(interactions.outerjoin(series, series.c.id == interactions.c.series_id))
            .where(
                interactions.c.completed_at.is_not(None),
                interactions.c.id > literal(after, Key),
                interactions.c.id < literal(before, Key),
                *conditions,
                *self._groups.conditions(OF_INTERACTIONS),
            )
            .order_by(interactions.c.id)
            .limit(_PAGE)
        )

    async def _details(self, rows: Sequence[dict[str, Any]]) -> dict[bytes, bytes]:
        """The answers of those whose row does not tell its usage by modality yet."""
        waiting = [row for row in rows if row["derived_state"] in (NOTHING, USAGE_CAME)]
        found: dict[bytes, bytes] = {}
        for some in gathering.by_size(waiting, "response_bytes"):
            for body in await self._reading.ask(gathering.answers(len(some)), named_keys(some)):
                raw = self._reader.unpacked(body)
                if raw is not None:
                    found[body[0]] = raw
        return found


def _key_before(moment: int) -> bytes:
    """The largest key before all keys of a moment in microseconds and of those that follow."""
    return max(0, int.from_bytes(key_from(moment), "big") - 1).to_bytes(16, "big")
