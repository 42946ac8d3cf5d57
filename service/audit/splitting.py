"""Splits hours that are over: sums of their first quarter, half and three quarters, beside the roll-ups of the whole.

Time zones that are half an hour or a quarter beside UTC begin their hours there, and what an interval has of an hour is
a difference of two of these sums. Nearly all of an hour has ended when it is over: to go through it once then costs a
part of what three more roll-ups for every interaction would. What comes later is added by
whoever derives it (:mod:`service.audit.derivation`). An hour counts as split as long as what it had then and has got
since is as much as the whole has, so it is not where a version before has added to that alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    func,
    literal,
    select,
    text,
    update,
)

from service.audit import gathering, measures, series
from service.audit.conditions import key_from, moment_of, of_ranges
from service.audit.derivation import FRACTIONS, HOUR, QUARTER, USAGE_CAME, Hour, statements
from service.audit.dialect import Dialect
from service.audit.dialects import dialect_of
from service.audit.intervals import merged
from service.audit.measures import Measures
from service.store.backend import Backend
from service.store.reports import Reading, Reports, Rows
from service.store.script import Ask, Execute, Script
from service.store.statement import Query
from service.store.tables import Key, interactions, rollups, split_hours
from service.store.tables import series as series_table

#: The grain of fewest series, which every interaction is counted in.
FEWEST: Final = 1
#: Microseconds after the end of an hour from which on it is split.
_REST: Final = 10 * 60_000_000
_PAGE: Final = 500
#: Roll-ups that one transaction writes: callers wait for it on SQLite.
_WRITTEN_AT_ONCE: Final = 100
#: Quarters of series that are held at once; an hour that has more stays as it is.
_MOST: Final = 20_000
#: Interactions of an hour beyond which it stays as it is: to go through more takes longer than a report may.
_LARGEST: Final = 50_000
#: What is noted of an hour that cannot be split; no sum is equal to it.
_NEVER: Final = -1
_NOTHING: Final = (0, 0)

_project = bindparam("hour_project_id", type_=Key)
_start = bindparam("hour_start", type_=BigInteger)
_of_hour: Final = (split_hours.c.project_id == _project, split_hours.c.start == _start)
_DUE: Final = Query(
    "hour to be split",
    select(split_hours.c.project_id, split_hours.c.start)
    .where(text("requests IS NULL"), split_hours.c.start <= bindparam("latest", type_=BigInteger))
    .order_by(split_hours.c.start)
    .limit(1),
)


def _sums_of_hours(project: ColumnElement[Any], within: ColumnElement[bool]) -> Select[Any]:
    """Hours of a project with what their roll-ups count."""
    hours = rollups.c
    return (
        select(hours.start, func.sum(hours.requests), func.sum(hours.unmeasured))
        .where(
            hours.project_id == project,
            hours.grain == literal(FEWEST),
            hours.span == literal(HOUR, BigInteger),
            within,
        )
        .group_by(hours.start)
    )


_WHOLE: Final = Query("sums of a whole hour", _sums_of_hours(_project, rollups.c.start == _start))
_MARK: Final = Query(
    "mark as split",
    update(split_hours)
    .values(
        requests=bindparam("new_requests", type_=BigInteger),
        unmeasured=bindparam("new_unmeasured", type_=BigInteger),
    )
    .where(*_of_hour),
)
_SERIES: Final = [column for column in series_table.c if column.name != "id"]


class Splitting:
    """Splits one hour after the other, the oldest first."""

    def __init__(self, backend: Backend, reports: Reports) -> None:
        self._backend = backend
        self._reports = reports

    async def step(self, *, rests: float = 0.0) -> int | None:
        """Split an hour; 0 when none is due or it has to wait, None while another process does it.

        ``rests`` is how many times as long as it works it stops between whiles. Raises what the indexer's steps do.
        """
        latest = int(time.time() * 1_000_000) - HOUR - _REST
        async with self._reports.reading() as reading:
            due = await reading.ask(_DUE, {"latest": latest})
            if not due:
                return 0
            hour: Hour = (due[0][0], due[0][1])
            told = {"hour_project_id": hour[0], "hour_start": hour[1]}
            whole = _numbers(await reading.ask(_WHOLE, told))
            dialect = dialect_of(reading)
        sums = await self._sums(hour, rests) if whole[0] <= _LARGEST else _Sums()
        if sums is None:
            return 0
        if (sums.requests, sums.unmeasured) != whole or len(sums.quarters) > _MOST:
            return await self._backend.run(lambda: _marked_if_same(told, whole, (_NEVER, _NEVER)))
        rows = await asyncio.to_thread(sums.rows, hour)
        for start in range(0, len(rows), _WRITTEN_AT_ONCE):
            some = rows[start : start + _WRITTEN_AT_ONCE]
            if await self._backend.run(partial(_written, dialect, some)) is None:
                return None
        return await self._backend.run(lambda: _marked_if_same(told, whole, whole))

    async def _sums(self, hour: Hour, rests: float) -> _Sums | None:
        """The sums of what has been derived from; None where they are about to change.

        Each page is a snapshot of its own: while one is held, SQLite's log cannot be begun anew. What changes between
        them changes the sums of the whole hour as well, and these are looked at again.
        """
        sums = _Sums()
        project_id, start = hour
        after, before = key_from(start), key_from(start + HOUR)
        while True:
            began = time.monotonic()
            async with self._reports.reading() as reading:
                rows = await reading.fetch(_page(project_id, after, before))
            if not rows:
                return sums
            if not await asyncio.to_thread(sums.add, rows):
                return None
            if len(sums.quarters) > _MOST:
                return sums
            after = rows[-1][0]
            if rests:
                await asyncio.sleep(rests * (time.monotonic() - began))


async def split(reading: Reading, project_id: bytes, hours: Collection[int]) -> set[int]:
    """Those of some hours of a project whose fractions can be told by roll-ups, as those can in which nothing was."""
    project = literal(project_id, Key)
    noted: list[Sequence[Any]] = []
    whole: list[Sequence[Any]] = []
    ranges = merged((hour, hour + HOUR) for hour in hours)
    for within in of_ranges(split_hours.c.start, ranges):
        columns = (split_hours.c.start, split_hours.c.requests, split_hours.c.unmeasured)
        noted += await reading.fetch(select(*columns).where(split_hours.c.project_id == project, within))
    for within in of_ranges(rollups.c.start, ranges):
        whole += await reading.fetch(_sums_of_hours(project, within))
    known = {start: (requests, unmeasured) for start, requests, unmeasured in noted}
    of_whole = {start: (int(requests), int(unmeasured)) for start, requests, unmeasured in whole}
    return {hour for hour in hours if known.get(hour, _NOTHING) == of_whole.get(hour, _NOTHING)}


class _Sums:
    """What an hour has: by series and quarter, and in all."""

    def __init__(self) -> None:
        self.quarters: dict[tuple[series.Series, int], Measures] = defaultdict(Measures)
        self.requests = 0
        self.unmeasured = 0

    def add(self, rows: Rows) -> bool:
        """Add interactions; whether it could be done: not where the roll-ups lack usage that has come."""
        width = len(gathering.COLUMNS)
        for row, it in zip(rows, gathering.rows_of([row[:width] for row in rows]), strict=True):
            if it["derived_state"] == USAGE_CAME:
                return False
            if not gathering.is_counted(it):
                continue
            modalities = gathering.modalities_of(gathering.usage_detail(it, None))
            one = measures.of_outcome(it, modalities)
            quarter = moment_of(it["id"]) % HOUR // QUARTER
            self.quarters[series.of_columns(row[width:]), quarter].add(one)
            self.requests += one.counts["requests"]
            self.unmeasured += one.counts["unmeasured"]
        return True

    def rows(self, hour: Hour) -> list[Mapping[str, Any]]:
        """The roll-ups of the fractions of the hour."""
        project_id, start = hour
        by_quarter = [defaultdict[tuple[int, bytes], Measures](Measures) for _ in FRACTIONS]
        for (full, quarter), sums in self.quarters.items():
            if quarter < len(FRACTIONS):
                for series_id, one in series.all_grains(full).items():
                    by_quarter[quarter][one.grain, series_id].add(sums)
        rows: list[Mapping[str, Any]] = []
        so_far: dict[tuple[int, bytes], Measures] = defaultdict(Measures)
        for span, quarter_sums in zip(FRACTIONS, by_quarter, strict=True):
            for kind, sums in quarter_sums.items():
                so_far[kind].add(sums)
            named = {"project_id": project_id, "span": span, "start": start}
            for grain, series_id in sorted(so_far):
                told = so_far[grain, series_id].columns()
                rows.append({**named, "grain": grain, "series_id": series_id, **told})
        return rows


def _page(project_id: bytes, after: bytes, before: bytes) -> Select[Any]:
    return (
        select(*(interactions.c[name] for name in gathering.COLUMNS), *_SERIES)
        .select_from(interactions.join(series_table, series_table.c.id == interactions.c.series_id))
        .where(
            interactions.c.completed_at.is_not(None),
            interactions.c.id > literal(after, Key),
            interactions.c.id < literal(before, Key),
            interactions.c.project_id == literal(project_id, Key),
        )
        .order_by(interactions.c.id)
        .limit(_PAGE)
    )


def _numbers(rows: Rows) -> tuple[int, int]:
    return (int(rows[0][1]), int(rows[0][2])) if rows else _NOTHING


def _written(dialect: Dialect, rows: Sequence[Mapping[str, Any]]) -> Script:
    yield Execute(statements(dialect).rollups, rows)
    return len(rows)


def _marked_if_same(told: Mapping[str, Any], whole: tuple[int, int], counts: tuple[int, int]) -> Script:
    """Whatever has come meanwhile is in the sums of the next time."""
    if _numbers((yield Ask(_WHOLE, told))) == whole:
        yield Execute(_MARK, [{**told, "new_requests": counts[0], "new_unmeasured": counts[1]}])
        return 1
    return 0
