"""The time that a reconciliation is asked for, as callers write it."""

from __future__ import annotations

from typing import Final

from service.audit import moments
from service.audit.reconcile import Span
from service.errors import InvalidRequest
from service.store.records import now

_SECOND: Final = 1_000_000
_DAY: Final = 86_400
_NAMED: Final = {"minute": 60, "hour": 3_600, "day": _DAY}
#: Intervals that one report has at most.
_MOST_INTERVALS: Final = 10_000


def span(start: str | None, end: str | None, interval: str | None) -> Span:
    """From ``from``, ``to`` and ``interval``: the last day by default, in hours, or in days where there are many.

    Raises :class:`InvalidRequest` naming the parameter at fault.
    """
    last = now() + _SECOND if end is None else moments.parse("to", end)
    first = max(0, last - _DAY * _SECOND) if start is None else moments.parse("from", start)
    if first >= last:
        raise InvalidRequest("The value is invalid for 'from'. Expected a time before 'to'.")
    seconds = (last - first) // _SECOND
    length = _length(interval) if interval is not None else _NAMED["hour" if seconds <= 2 * _DAY else "day"]
    if interval is not None and seconds // length > _MOST_INTERVALS:
        raise InvalidRequest(
            f"The value is invalid for 'interval'. From 'from' to 'to' there would be more than {_MOST_INTERVALS} "
            "of them; make it longer."
        )
    return Span(start=first, end=last, interval=length)


def _length(interval: str) -> int:
    length = _NAMED.get(interval)
    if length is None:
        raise InvalidRequest(
            f"The value is invalid for 'interval'. Expected {', '.join(_NAMED)}, got {interval[:50]!r}."
        )
    return length
