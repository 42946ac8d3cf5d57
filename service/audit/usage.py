"""Usage by whatever it can be grouped by: exact, whatever has been derived so far, and fast at millions.

Roll-ups are added up, and to them what they do not have yet: interactions that wait to be derived from, usage that came
late, and the ends of intervals that no roll-up covers. All of it is read in one snapshot, in which each interaction is
in exactly one of these places. An interaction counts when it has ended, at the time in its key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, TextClause, func, literal, select

from service.audit import backlog, conditions, gathering, measures, splitting
from service.audit.conditions import key_from
from service.audit.derivation import DAY, HOUR, NOTHING, QUARTER, USAGE_CAME
from service.audit.filters import Filters
from service.audit.gathering import WAITING
from service.audit.intervals import (
    Fraction,
    Interval,
    Pieces,
    Places,
    Unit,
    divided,
    merged,
    pieces_of,
)
from service.audit.measures import COUNTERS, Measures
from service.audit.prices import Prices
from service.audit.series import grain_for
from service.audit.splitting import FEWEST
from service.store.codec import Codec
from service.store.kept_holds import labels_of
from service.store.reports import Reading, Reports
from service.store.statement import named_keys
from service.store.tables import Key, api_keys, interactions, projects, rollups, series

#: What usage can be grouped by beside times and labels, and the columns that hold it.
DIMENSIONS: Final = (
    "model",
    "project",
    "key",
    "agent",
    "deployment",
    "status",
    "error_code",
    "service_tier",
    "stream",
    "background",
)
_RENAMED: Final = {"project": "project_id", "key": "key_id", "deployment": "deployment_id"}


def _of_series() -> dict[str, ColumnElement[Any]]:
    found: dict[str, ColumnElement[Any]] = {
        name: series.c[_RENAMED.get(name, name)] for name in (*DIMENSIONS, "labels")
    }
    return {**found, "key_id": series.c.key_id}


def _of_interactions() -> dict[str, ColumnElement[Any]]:
    found: dict[str, ColumnElement[Any]] = {
        name: interactions.c[_RENAMED.get(name, name)] for name in DIMENSIONS
    }
    return {
        **found,
        "key_id": interactions.c.key_id,
        "model": func.coalesce(interactions.c.model, interactions.c.model_requested),
        # The labels of a deleted interaction are gone from its row, and not from what it is counted under.
        "labels": func.coalesce(series.c.labels, interactions.c.labels),
    }


#: Where the values of dimensions stand.
_SERIES: Final = _of_series()
_INTERACTIONS: Final = _of_interactions()
_FLAGS: Final = frozenset({"stream", "background"})
_PAGE: Final = 500
_SUMS: Final = (*COUNTERS, "modalities", "durations", "first_events")

Group = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """How a report is divided: by values of dimensions, by labels, and by one unit of time."""

    dimensions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Sums by group, each a tuple of the values of dimensions, of labels, and of the name of its time."""

    intervals: Sequence[Interval]
    groups: Mapping[Group, Measures]
    #: The names of the project and its keys.
    names: Mapping[bytes, str]


class UsageReports:
    """Sums usage up, within one project at a time (promise P6)."""

    def __init__(
        self, reports: Reports, packing: Codec, prices: Prices, *, most_waiting: int = backlog.MOST
    ) -> None:
        self._reports = reports
        self._packing = packing
        self._prices = prices
        self._most_waiting = most_waiting

    async def report(self, project_id: bytes, filters: Filters, grouping: Grouping, zone: tzinfo) -> Report:
        """The report; raises :class:`~service.errors.ServiceError`, also where too much is in no roll-up yet."""
        async with self._reports.reading() as reading:
            start, end = await _bounds(reading, project_id, filters)
            intervals = divided(start, end, grouping.unit, zone)
            adding = _Adding(reading, project_id, filters, grouping, Places(intervals))
            if intervals:
                await backlog.refuse_too_much(reading, project_id, start, end, self._most_waiting)
                pieces = pieces_of(intervals)
                hours = {one.hour for one in pieces.fractions}
                pieces = pieces.without(hours - await splitting.split(reading, project_id, hours))
                await adding.rollups(pieces)
                await adding.fractions(pieces.fractions)
                rows = _Rows(reading, adding, gathering.Gathering(self._packing, self._prices), self._prices)
                await rows.edges(pieces.edges)
                await rows.waiting(pieces)
            return Report(intervals, adding.groups, await names_of(reading, project_id))


async def _bounds(reading: Reading, project_id: bytes, filters: Filters) -> tuple[int, int]:
    """The time of the report: what the filters say, and no more than there is something of."""
    project = literal(project_id, Key)
    of_days = select(func.min(rollups.c.start), func.max(rollups.c.start)).where(
        rollups.c.project_id == project, rollups.c.grain == FEWEST, rollups.c.span == DAY
    )
    of_waiting = [
        select(interactions.c.id)
        .where(WAITING, interactions.c.completed_at.is_not(None), interactions.c.project_id == project)
        .order_by(by)
        .limit(1)
        for by in (interactions.c.id.asc(), interactions.c.id.desc())
    ]
    ((first, last),) = await reading.fetch(of_days)
    starts = [] if first is None else [first]
    ends = [] if last is None else [last + DAY]
    for statement in of_waiting:
        for (key,) in await reading.fetch(statement):
            starts.append(moment_of(key))
            ends.append(moment_of(key) + 1)
    start, end = min(starts, default=0), max(ends, default=0)
    return max(start, filters.since or 0), end if filters.until is None else min(end, filters.until)


def moment_of(key: bytes) -> int:
    """The time in a key, in microseconds since the epoch."""
    return int.from_bytes(key[:6], "big") * 1000


def _key_before(moment: int) -> bytes:
    """The largest key before all keys of a moment in microseconds and of those that follow."""
    return max(0, int.from_bytes(key_from(moment), "big") - 1).to_bytes(16, "big")


class _Adding:
    """Adds sums to the groups that they belong to."""

    def __init__(
        self, reading: Reading, project_id: bytes, filters: Filters, grouping: Grouping, places: Places
    ) -> None:
        self._reading = reading
        self._project_id = project_id
        self._filters = filters
        self._grouping = grouping
        self._places = places
        self.groups: dict[Group, Measures] = {}

    def columns(self, source: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """The columns of the values of a group."""
        names = [*self._grouping.dimensions, *(("labels",) if self._grouping.labels else ())]
        return [source[name] for name in names]

    def conditions(self, source: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[bool]]:
        """What the filters ask."""
        return conditions.of_dimensions(self._filters, self._project_id, source)

    def group(self, values: Sequence[Any], moment: int) -> Measures | None:
        """The sums of a group; None where the moment is outside of the report."""
        interval = self._places.of(moment)
        if interval is None:
            return None
        names = self._grouping.dimensions
        width = len(names)
        told = [
            bool(value) if name in _FLAGS else value
            for name, value in zip(names, values[:width], strict=True)
        ]
        if self._grouping.labels:
            labels = labels_of(values[width])
            told += [labels.get(name) for name in self._grouping.labels]
        if self._grouping.unit is not None:
            told.append(interval.name)
        return self.groups.setdefault(tuple(told), Measures())

    def _needed(self) -> set[str]:
        """The columns of a series that are looked at."""
        named = {*self._grouping.dimensions, *(choice.field.name for choice in self._filters.choices)}
        labels = {"labels"} if self._grouping.labels or self._filters.labels else set()
        return {_RENAMED.get(name, name) for name in named - {"project"}} | labels

    async def rollups(self, pieces: Pieces) -> None:
        """Add the roll-ups."""
        for span, ranges in pieces.rollups.items():
            for start, values, told in await self._rows(span, ranges):
                sums = self.group(values, start)
                if sums is not None:
                    sums.add_columns(told)

    async def fractions(self, fractions: Sequence[Fraction]) -> None:
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
                    if (group := self.group(values, moment)) is not None:
                        group.add(sums, times)

    async def _rows(
        self, span: int, ranges: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, Sequence[Any], Sequence[Any]]]:
        """Roll-ups that begin within ranges: where, the values of their group, and their sums."""
        columns = self.columns(_SERIES)
        width = 1 + len(columns)
        found: list[Sequence[Any]] = []
        for within in conditions.of_ranges(rollups.c.start, ranges):
            found += await self._reading.fetch(
                select(rollups.c.start, *columns, *(rollups.c[name] for name in _SUMS))
                .select_from(rollups.join(series, series.c.id == rollups.c.series_id))
                .where(
                    rollups.c.project_id == literal(self._project_id, Key),
                    rollups.c.grain == grain_for(self._needed()),
                    rollups.c.span == span,
                    within,
                    *self.conditions(_SERIES),
                )
            )
        return ((row[0], row[1:width], row[width:]) for row in found)


class _Rows:
    """Adds what no roll-up has, from the interactions themselves."""

    def __init__(
        self, reading: Reading, adding: _Adding, reader: gathering.Gathering, prices: Prices
    ) -> None:
        self._reading = reading
        self._adding = adding
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
        sums = self._adding.group(values, moment_of(it["id"]))
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
                *(interactions.c[name] for name in gathering.COLUMNS), *self._adding.columns(_INTERACTIONS)
            )
            .select_from(interactions.outerjoin(series, series.c.id == interactions.c.series_id))
            .where(
                interactions.c.completed_at.is_not(None),
                interactions.c.id > literal(after, Key),
                interactions.c.id < literal(before, Key),
                *conditions,
                *self._adding.conditions(_INTERACTIONS),
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


async def names_of(reading: Reading, project_id: bytes) -> dict[bytes, str]:
    """The names of the project and of its keys; keys that share a name are known by their ids."""
    project = literal(project_id, Key)
    found = await reading.fetch(select(projects.c.id, projects.c.name).where(projects.c.id == project))
    keys = await reading.fetch(select(api_keys.c.id, api_keys.c.name).where(api_keys.c.project_id == project))
    often = Counter(name for _, name in keys)
    named = {key: name for key, name in keys if often[name] == 1}
    return named | {key: name for key, name in found}  # noqa: C416  rows are no pairs to mypy
