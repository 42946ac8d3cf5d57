"""Time as reports divide it: hours, days, weeks and months of a time zone, and what of each the roll-ups cover.

Roll-ups sum over whole hours and whole days of UTC. An interval is put together from the longest of them that lie in it
as a whole. What is left at its ends, in zones whose offset is no whole hour, is a difference of sums over fractions of
an hour; where there are none, or a report begins anywhere, it is added up from the interactions themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal

from service.audit.derivation import DAY, HOUR, QUARTER
from service.errors import InvalidRequest

Unit = Literal["hour", "day", "week", "month"]
UNITS: Final[tuple[Unit, ...]] = ("hour", "day", "week", "month")
#: More than a year of hours.
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``start`` on and before ``end``, in microseconds since the epoch; ``name`` is None without a division."""

    start: int
    end: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Fraction:
    """A piece of the hour that begins at ``hour``, from one quarter of it to another one, in one interval."""

    hour: int
    first: int
    last: int

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.hour + self.first * QUARTER

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.hour + self.last * QUARTER


@dataclass(slots=True)
class Pieces:
    """What covers intervals: ranges of roll-ups by their span, fractions of hours, and ranges of interactions."""

    rollups: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    fractions: list[Fraction] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)

    def derived(self) -> list[tuple[int, int]]:
        """The ranges of all but the edges, as far as they follow one another in one."""
        ranges = [one for some in self.rollups.values() for one in some]
        return merged([*ranges, *((one.start, one.end) for one in self.fractions)])

    def without(self, hours: Collection[int]) -> Pieces:
        """The same with edges in place of the fractions of some hours."""
        edges = [*self.edges, *((one.start, one.end) for one in self.fractions if one.hour in hours)]
        return Pieces(self.rollups, [one for one in self.fractions if one.hour not in hours], merged(edges))


def divided(start: int, end: int, unit: Unit | None, zone: tzinfo) -> list[Interval]:
    """The time from ``start`` to ``end`` in units of a time zone, the first and the last cut off there.

    Raises :class:`InvalidRequest` when there would be too many.
    """
    if end <= start:
        return []
    if unit is None:
        return [Interval(start, end)]
    found: list[Interval] = []
    for begin, behind, name in _units(start, unit, zone):
        if len(found) >= _MOST:
            raise InvalidRequest(
                f"The report would have more than {_MOST} times by '{unit}'; narrow it with 'from' and 'to'."
            )
        found.append(Interval(max(start, begin), min(end, behind), name))
        if behind >= end:
            break
    return found


def _units(start: int, unit: Unit, zone: tzinfo) -> Iterator[tuple[int, int, str]]:
    if unit == "hour":
        yield from _hours(start, zone)
    moment = datetime.fromtimestamp(start // 1_000_000, UTC).astimezone(zone)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    while True:
        following = _following(day, unit)
        name = day.strftime("%Y-%m" if unit == "month" else "%Y-%m-%d")
        begin, behind = _microseconds(day, zone), _microseconds(following, zone)
        if behind > start:
            yield begin, behind, name
        day = following


def _hours(start: int, zone: tzinfo) -> Iterator[tuple[int, int, str]]:
    """Hours by the clocks of the zone; where they are put forward or back by less, what is left of one is another."""
    # An hour is known by the end of the one before, which a change may be in.
    begin = start - 2 * HOUR
    while True:
        local = datetime.fromtimestamp(begin // 1_000_000, UTC).astimezone(zone)
        offset = (local.utcoffset() or timedelta()) // timedelta(microseconds=1)
        behind = begin + HOUR - (begin + offset) % HOUR
        if behind > start:
            yield begin, behind, local.isoformat(timespec="minutes")
        begin = behind


def _following(day: datetime, unit: Unit) -> datetime:
    if unit == "month":
        return (day + timedelta(days=32)).replace(day=1)
    return day + timedelta(days=7 if unit == "week" else 1)


def _microseconds(local: datetime, zone: tzinfo) -> int:
    elapsed = local.replace(tzinfo=zone).astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return elapsed // timedelta(microseconds=1)


def pieces_of(intervals: Iterable[Interval]) -> Pieces:
    """What covers these intervals, which follow one another."""
    pieces = Pieces({DAY: [], HOUR: []})
    for interval in intervals:
        first, last = _aligned(interval.start, interval.end, HOUR)
        if first > last:
            _add_within(pieces, interval.start, interval.end)
            continue
        _add_within(pieces, interval.start, first)
        first_day, last_day = _aligned(first, last, DAY)
        if first_day >= last_day:
            _append(pieces.rollups[HOUR], first, last)
        else:
            _append(pieces.rollups[HOUR], first, first_day)
            _append(pieces.rollups[DAY], first_day, last_day)
            _append(pieces.rollups[HOUR], last_day, last)
        _add_within(pieces, last, interval.end)
    return pieces


def _add_within(pieces: Pieces, start: int, end: int) -> None:
    """A piece of one hour."""
    if start >= end:
        return
    hour = start // HOUR * HOUR
    if start % QUARTER or end % QUARTER:
        _append(pieces.edges, start, end)
    else:
        pieces.fractions.append(Fraction(hour, (start - hour) // QUARTER, (end - hour) // QUARTER))


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that do not overlap, in order, those that follow one another as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        _append(found, start, end)
    return found


def _aligned(start: int, end: int, span: int) -> tuple[int, int]:
    return -(-start // span) * span, end // span * span


def _append(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    if start >= end:
        return
    if ranges and ranges[-1][1] == start:
        ranges[-1] = (ranges[-1][0], end)
    else:
        ranges.append((start, end))


class Places:
    """Finds the interval of a moment."""

    def __init__(self, intervals: Sequence[Interval]) -> None:
        self._intervals = intervals
        self._starts = [interval.start for interval in intervals]

    def of(self, moment: int) -> Interval | None:
        """The interval that a moment lies in."""
        place = bisect_right(self._starts, moment) - 1
        if place < 0 or moment >= self._intervals[place].end:
            return None
        return self._intervals[place]
