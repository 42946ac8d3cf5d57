"""The hours of a report: seamless, named by when they begin, and the same wherever a report begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.audit.intervals import Interval, divided, pieces_of
from tests.audit.history import HOUR

ZONES = (
    "Australia/Lord_Howe",
    "Australia/LHI",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Pacific/Apia",
    "Europe/Berlin",
)
#: In 2011, Apia left out a day, and St. John's changed its clocks a minute after midnight.
YEARS = (2011, 2025, 2026)
#: When Lord Howe puts its clocks forward and back by half an hour.
FORWARD, BACK = datetime(2025, 10, 4, 15, 30, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def year_of(year: int) -> tuple[int, int]:
    return microseconds(datetime(year, 1, 1, tzinfo=UTC)), microseconds(datetime(year + 1, 1, 1, tzinfo=UTC))


@cache
def hours(zone: str, year: int) -> list[Interval]:
    return divided(*year_of(year), "hour", ZoneInfo(zone))


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("zone", ZONES)
def test_hours_are_seamless_and_named_by_when_they_begin(zone: str, year: int) -> None:
    start, end = year_of(year)
    found = hours(zone, year)
    assert (found[0].start, found[-1].end) == (start, end)
    assert all(one.end == following.start for one, following in pairwise(found))
    assert all(0 < one.end - one.start <= HOUR for one in found)
    assert len({one.name for one in found}) == len(found)
    for one in found[1:]:
        local = datetime.fromtimestamp(one.start // 1_000_000, UTC).astimezone(ZoneInfo(zone))
        assert one.name == local.isoformat(timespec="minutes")
    pieces = pieces_of(found)
    assert pieces.edges == []
    assert pieces.derived() == [(start, end)]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            FORWARD,
            ("2025-10-05T01:00+10:30", "2025-10-05T02:30+11:00", "2025-10-05T03:00+11:00"),
        ),
        (
            BACK,
            ("2026-04-05T01:00+11:00", "2026-04-05T01:30+10:30", "2026-04-05T02:00+10:30"),
        ),
    ],
)
def test_an_hour_is_shorter_where_clocks_change_by_half_an_hour(
    change: datetime, names: tuple[str, ...]
) -> None:
    moment = microseconds(change)
    found = divided(moment - HOUR, moment + 3 * HOUR // 2, "hour", ZoneInfo("Australia/Lord_Howe"))
    half = moment + HOUR // 2
    assert [(one.start, one.end) for one in found] == [
        (moment - HOUR, moment),
        (moment, half),
        (half, half + HOUR),
    ]
    assert tuple(one.name for one in found) == names


@given(
    zone=st.sampled_from(ZONES),
    moment=st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 30), timezones=st.just(UTC)),
)
@example(zone="Australia/Lord_Howe", moment=FORWARD + timedelta(minutes=10))
@example(zone="Australia/Lord_Howe", moment=FORWARD + timedelta(minutes=40))
@example(zone="Australia/Lord_Howe", moment=BACK + timedelta(minutes=10))
@example(zone="Australia/Lord_Howe", moment=BACK + timedelta(minutes=40))
def test_an_hour_has_the_same_name_wherever_a_report_begins(zone: str, moment: datetime) -> None:
    start = microseconds(moment)
    end = min(start + 5 * HOUR, year_of(moment.year)[1])
    expected = [
        Interval(max(one.start, start), min(one.end, end), one.name)
        for one in hours(zone, moment.year)
        if one.end > start and one.start < end
    ]
    assert divided(start, end, "hour", ZoneInfo(zone)) == expected
