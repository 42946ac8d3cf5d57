"""What usage is grouped by, where the values of that stand, and the sums of each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, func

from service.audit import conditions
from service.audit.filters import Filters
from service.audit.intervals import Places, Unit
from service.audit.measures import Measures
from service.store.kept_holds import labels_of
from service.store.tables import interactions, series

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
OF_SERIES: Final = _of_series()
OF_INTERACTIONS: Final = _of_interactions()
_FLAGS: Final = frozenset({"stream", "background"})

Group = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """How a report is divided: by values of dimensions, by labels, and by one unit of time."""

    dimensions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    unit: Unit | None = None


class Groups:
    """The groups of a report, and the sums of each."""

    def __init__(self, project_id: bytes, filters: Filters, grouping: Grouping, places: Places) -> None:
        self._project_id = project_id
        self._filters = filters
        self._grouping = grouping
        self._places = places
        #: Where there are flags among the values of a group.
        self._flags = [place for place, name in enumerate(grouping.dimensions) if name in _FLAGS]
        self.sums: dict[Group, Measures] = {}

    def columns(self, source: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """The columns of the values of a group."""
        names = [*self._grouping.dimensions, *(("labels",) if self._grouping.labels else ())]
        return [source[name] for name in names]

    def conditions(self, source: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[bool]]:
        """What the filters ask of these columns, in the project of the report."""
        return conditions.of_dimensions(self._filters, self._project_id, source)

    def of(self, values: Sequence[Any], moment: int) -> Measures | None:
        """The sums of a group; None where the moment is outside of the report."""
        interval = self._places.of(moment)
        if interval is None:
            return None
        width = len(self._grouping.dimensions)
        told = list(values[:width])
        for place in self._flags:
            told[place] = bool(told[place])
        if self._grouping.labels:
            labels = labels_of(values[width])
            told += [labels.get(name) for name in self._grouping.labels]
        if self._grouping.unit is not None:
            told.append(interval.name)
        group = tuple(told)
        sums = self.sums.get(group)
        if sums is None:
            sums = self.sums[group] = Measures()
        return sums

    def needed(self) -> set[str]:
        """The columns of a series that are looked at."""
        named = {*self._grouping.dimensions, *(choice.field.name for choice in self._filters.choices)}
        labels = {"labels"} if self._grouping.labels or self._filters.labels else set()
        return {_RENAMED.get(name, name) for name in named - {"project"}} | labels
