"""Usage by whatever it can be grouped by: exact, whatever has been derived so far, and fast at millions.

Roll-ups are added up, and to them what they do not have yet: interactions that wait to be derived from, usage that came
late, and the ends of intervals that no roll-up covers. All of it is read in one snapshot, in which each interaction is
in exactly one of these places. An interaction counts when it has ended, at the time in its key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from sqlalchemy import literal, select

from service.audit import backlog, gathering, splitting
from service.audit.conditions import moment_of
from service.audit.derivation import DAY
from service.audit.filters import Filters
from service.audit.gathering import WAITING
from service.audit.groups import Group, Grouping, Groups
from service.audit.intervals import Interval, Places, divided, pieces_of
from service.audit.measures import Measures
from service.audit.prices import Prices
from service.audit.splitting import FEWEST
from service.audit.usage_rollups import RollUps
from service.audit.usage_rows import UsageRows
from service.store.codec import Codec
from service.store.reports import Reading, Reports
from service.store.tables import Key, api_keys, interactions, projects, rollups


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
            groups = Groups(project_id, filters, grouping, Places(intervals))
            if intervals:
                await backlog.refuse_too_much(reading, project_id, start, end, self._most_waiting)
                pieces = pieces_of(intervals)
                hours = {one.hour for one in pieces.fractions}
                pieces = pieces.without(hours - await splitting.split(reading, project_id, hours))
                roll_ups = RollUps(reading, project_id, groups)
                await roll_ups.add(pieces)
                await roll_ups.add_fractions(pieces.fractions)
                gathered = gathering.Gathering(self._packing, self._prices)
                rows = UsageRows(reading, groups, gathered, self._prices)
                await rows.edges(pieces.edges)
                await rows.waiting(pieces)
            return Report(intervals, groups.sums, await names_of(reading, project_id))


async def _bounds(reading: Reading, project_id: bytes, filters: Filters) -> tuple[int, int]:
    """The time of the report: what the filters say, and no more than there is something of."""
    project = literal(project_id, Key)
    of_days = (
        select(rollups.c.start)
        .where(rollups.c.project_id == project, rollups.c.grain == FEWEST, rollups.c.span == DAY)
        .limit(1)
    )
    # SQLite looks through all days for a smallest and a largest at once.
    first, last = (
        of_days.order_by(by).scalar_subquery() for by in (rollups.c.start.asc(), rollups.c.start.desc())
    )
    of_waiting = [
        select(interactions.c.id)
        .where(WAITING, interactions.c.completed_at.is_not(None), interactions.c.project_id == project)
        .order_by(by)
        .limit(1)
        for by in (interactions.c.id.asc(), interactions.c.id.desc())
    ]
    ((first_day, last_day),) = await reading.fetch(select(first, last))
    starts = [] if first_day is None else [first_day]
    ends = [] if last_day is None else [last_day + DAY]
    for statement in of_waiting:
        for (key,) in await reading.fetch(statement):
            starts.append(moment_of(key))
            ends.append(moment_of(key) + 1)
    start, end = min(starts, default=0), max(ends, default=0)
    return max(start, filters.since or 0), end if filters.until is None else min(end, filters.until)


async def names_of(reading: Reading, project_id: bytes) -> dict[bytes, str]:
    """The names of the project and of its keys; keys that share a name are known by their ids."""
    project = literal(project_id, Key)
    found = await reading.fetch(select(projects.c.id, projects.c.name).where(projects.c.id == project))
    keys = await reading.fetch(select(api_keys.c.id, api_keys.c.name).where(api_keys.c.project_id == project))
    often = Counter(name for _, name in keys)
    named = {key: name for key, name in keys if often[name] == 1}
    return named | {key: name for key, name in found}  # noqa: C416  rows are no pairs to mypy
