"""What usage reports add up: roll-ups of days and hours, and differences of what hours have up to their quarters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import literal, select

from service.audit import conditions
from service.audit.derivation import HOUR, QUARTER
from service.audit.groups import OF_SERIES, Groups
from service.audit.intervals import Fraction, Pieces, merged
from service.audit.measures import COUNTERS, Measures
from service.audit.series import grain_for, has_few
from service.store.reports import Plan, Reading
from service.store.tables import Key, rollups, series

_SUMS: Final = (*COUNTERS, "modalities", "durations", "first_events")


class RollUps:
    """Adds the roll-ups of one project to the groups of a report."""

    def __init__(self, reading: Reading, project_id: bytes, groups: Groups) -> None:
        self._reading = reading
        self._project_id = project_id
        self._groups = groups
        self._grain = grain_for(groups.needed())

    async def add(self, pieces: Pieces) -> None:
        """Add the roll-ups."""
        if has_few(self._grain):
            # Without that, PostgreSQL puts all series that there are into a hash, for the few that are met.
            await self._reading.plan(Plan.LOOK_UP)
        for span, ranges in pieces.rollups.items():
            for start, values, told in await self._rows(span, ranges):
                sums = self._groups.of(values, start)
                if sums is not None:
                    sums.add_columns(told)

    async def add_fractions(self, fractions: Sequence[Fraction]) -> None:
        """Add differences of what hours have up to their quarters."""
        #: Where sums up to a quarter of an hour are added, and where they are taken away again.
        wanted: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for one in fractions:
            wanted[one.last * QUARTER, one.hour].append((one.start, 1))
            if one.first:
                wanted[one.first * QUARTER, one.hour].append((one.start, -1))
        for span in {span for span, _ in wanted}:
            ranges = merged((hour, hour + HOUR) for of, hour in wanted if of == span)
            for start, values, told in await self._rows(span, ranges):
                sums = Measures()
                sums.add_columns(told)
                for moment, times in wanted[span, start]:
                    if (group := self._groups.of(values, moment)) is not None:
                        group.add(sums, times)

    async def _rows(
        self, span: int, ranges: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, Sequence[Any], Sequence[Any]]]:
        """Roll-ups that begin within ranges: where, the values of their group, and their sums."""
        columns = self._groups.columns(OF_SERIES)
        width = 1 + len(columns)
        found: list[Sequence[Any]] = []
        for within in conditions.of_ranges(rollups.c.start, ranges):
            found += await self._reading.fetch(
                select(rollups.c.start, *columns, *(rollups.c[name] for name in _SUMS))
                .select_from(rollups.join(series, series.c.id == rollups.c.series_id))
                .where(
                    rollups.c.project_id == literal(self._project_id, Key),
                    rollups.c.grain == self._grain,
                    rollups.c.span == span,
                    within,
                    *self._groups.conditions(OF_SERIES),
                )
            )
        return ((row[0], row[1:width], row[width:]) for row in found)
