"""What a caller asks of usage, and how the answer is told."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from service.audit import filters
from service.audit.fields import LABEL_PREFIXES
from service.audit.filters import Filters
from service.audit.groups import DIMENSIONS, Grouping
from service.audit.histogram import Histogram
from service.audit.intervals import UNITS, Unit
from service.audit.measures import Measures
from service.audit.summaries import TOKENS, dollars, timestamp
from service.audit.usage import Report
from service.errors import InvalidRequest
from service.settings.values import nearest

#: Filters that usage can be summed up by.
FILTERS: Final = tuple("key_id" if name == "key" else name for name in DIMENSIONS)
OTHERS: Final = ("group_by", "tz")
_MOST_LABELS: Final = 5


@dataclass(frozen=True, slots=True)
class UsageRequest:
    """Filters, how to group, and whose clocks."""

    filters: Filters
    grouping: Grouping
    zone: ZoneInfo


def parse(query: Iterable[tuple[str, str]]) -> UsageRequest:
    """Read a query string; raises :class:`InvalidRequest` naming what cannot be used."""
    given = list(query)
    zone = _zone(next((value for name, value in given if name == "tz"), "UTC"))
    groups = [value for name, value in given if name == "group_by"]
    chosen, _ = filters.parse(
        [(name, value) for name, value in given if name != "group_by"], others=("tz", "group_by"), zone=zone
    )
    refused = [choice.field.name for choice in chosen.choices if choice.field.name not in FILTERS]
    refused += [bounds.field.name for bounds in chosen.bounds]
    if chosen.text is not None:
        refused.append("q")
    if chosen.deleted != "false":
        refused.append("deleted")
    if refused:
        raise InvalidRequest(
            f"Usage cannot be filtered by '{refused[0]}'. It can by {', '.join(FILTERS)}, label:NAME, from and to."
        )
    return UsageRequest(chosen, _grouping(groups), zone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest(
            f"The value is invalid for 'tz'. Expected a time zone such as UTC or Europe/Berlin, got {name[:50]!r}."
        ) from None


def _grouping(groups: Iterable[str]) -> Grouping:
    grouping = Grouping()
    for group in (part.strip() for value in groups for part in value.split(",")):
        grouping = _with(grouping, group)
    return grouping


def _with(grouping: Grouping, group: str) -> Grouping:
    unit: Unit | None = next((unit for unit in UNITS if unit == group), None)
    if unit is not None:
        if grouping.unit not in (None, unit):
            raise InvalidRequest(
                f"The value is invalid for 'group_by'. Group by '{grouping.unit}' or '{unit}'."
            )
        return replace(grouping, unit=unit)
    for prefix in LABEL_PREFIXES:
        if group.startswith(prefix) and len(group) > len(prefix):
            labels = tuple(dict.fromkeys((*grouping.labels, group[len(prefix) :])))
            if len(labels) > _MOST_LABELS:
                raise InvalidRequest(
                    f"The value is invalid for 'group_by'. It has more than {_MOST_LABELS} labels."
                )
            return replace(grouping, labels=labels)
    if group not in DIMENSIONS:
        known = frozenset((*DIMENSIONS, *UNITS, "label:team"))
        raise InvalidRequest(
            f"The value is invalid for 'group_by'. Expected names such as model, key, label:team or day, got "
            f"{group[:50]!r}; the nearest known one is {nearest(group[:50], known)!r}."
        )
    return replace(grouping, dimensions=tuple(dict.fromkeys((*grouping.dimensions, group))))


def told(request: UsageRequest, report: Report) -> dict[str, Any]:
    """The answer."""
    grouping = request.grouping
    total = Measures()
    for sums in report.groups.values():
        total.add(sums)
    found = sorted(
        report.groups.items(), key=lambda item: [(value is not None, str(value)) for value in item[0]]
    )
    intervals = report.intervals
    return {
        "from": timestamp(intervals[0].start) if intervals else None,
        "to": timestamp(intervals[-1].end) if intervals else None,
        "tz": request.zone.key,
        "group_by": members(grouping),
        "groups": [
            {**_values(grouping, group, report.names), **told_sums(sums)}
            for group, sums in found
            if sums.counts["requests"]
        ],
        "total": told_sums(total),
    }


def members(grouping: Grouping) -> list[str]:
    """What a group's values are called, in order."""
    labels = [f"label:{name}" for name in grouping.labels]
    return [*grouping.dimensions, *labels, *([grouping.unit] if grouping.unit else [])]


def _values(grouping: Grouping, group: tuple[Any, ...], names: Mapping[bytes, str]) -> dict[str, Any]:
    return {
        name: (names.get(value) or str(uuid.UUID(bytes=value))) if isinstance(value, bytes) else value
        for name, value in zip(members(grouping), group, strict=True)
    }


def told_sums(sums: Measures) -> dict[str, Any]:
    """Sums as they are answered; a cost of which nothing is known is None."""
    counts = sums.counts
    unknown = (counts["unpriced"] or counts["unmeasured"]) and not counts["cost_nanos"]
    return {
        "requests": counts["requests"],
        "errors": counts["errors"],
        "unmeasured": counts["unmeasured"],
        "tokens": {name.removesuffix("_tokens"): counts[name] for name in TOKENS},
        "modalities": sums.modalities,
        "cost": None if unknown else dollars(counts["cost_nanos"]),
        "unpriced": counts["unpriced"],
        "duration": _quantiles(sums.durations),
        "first_event": _quantiles(sums.first_events),
    }


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    half, most = histogram.quantiles(0.5, 0.95)
    return {
        "p50": None if half is None else round(half / 1_000_000, 6),
        "p95": None if most is None else round(most / 1_000_000, 6),
    }
