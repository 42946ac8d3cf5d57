"""Moments as callers write them: ISO 8601, seconds since the epoch, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from service.errors import InvalidRequest
from service.store.records import now

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_EPOCH: Final = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
#: A plus sign that nobody escaped, as it arrives in a query string.
_PLUS: Final = re.compile(r"(?<=[T:]\d\d) (\d\d:?\d\d)$", re.ASCII)
#: A letter in small, as RFC 3339 5.6 lets it be written.
_SMALL: Final = re.compile(r"(?<=\d)[tz](?=\d|$)", re.ASCII)
#: A second that a clock has put in.
_LEAP: Final = re.compile(r"(?<=[T ]\d\d:\d\d:)60(?=[Z.,+-]|$)", re.ASCII)
_DAY: Final = 86_400
#: The last moment that a key can hold (RFC 9562 5.7), and that a date can be written of: the end of the year 9999.
LATEST: Final = 253_402_300_799_999_999


def parse(name: str, value: str, zone: tzinfo = UTC) -> int:
    """Microseconds since the epoch; a time without an offset is one of ``zone``.

    Raises :class:`InvalidRequest` naming the parameter for anything that is not such a moment.
    """
    text = value.strip()
    if ago := _AGO.fullmatch(text):
        return max(0, now() - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000)
    if _EPOCH.fullmatch(text) and len(text) != len("20260101"):
        return min(LATEST, round(float(text) * 1_000_000))
    try:
        elapsed = _elapsed(_SMALL.sub(lambda letter: letter[0].upper(), text), zone)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"The value is invalid for '{name}'. Expected a time such as 2026-11-25, 2026-11-25T08:30:00Z or seconds "
            f"since 1970, or how long ago such as 24h or 7d, got {value[:50]!r}."
        ) from None
    microseconds = (elapsed.days * _DAY + elapsed.seconds) * 1_000_000 + elapsed.microseconds
    if microseconds < 0:
        raise InvalidRequest(
            f"The value is invalid for '{name}'. Expected a time from 1970 on, got {value[:50]!r}."
        )
    return microseconds


def _elapsed(text: str, zone: tzinfo) -> timedelta:
    """The time since the epoch; raises ValueError or OverflowError for what is no moment."""
    last, leaps = _LEAP.subn("59", _PLUS.sub(r"+\1", text))
    moment = datetime.fromisoformat(last)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    elapsed = moment.astimezone(UTC) + timedelta(seconds=leaps) - datetime(1970, 1, 1, tzinfo=UTC)
    if leaps and elapsed.seconds:
        raise ValueError("a second is put in at the end of a day of UTC")
    return elapsed
