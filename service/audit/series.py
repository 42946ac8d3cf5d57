"""Series: what usage can be grouped and filtered by, each combination known by its digest.

Every interaction that has been counted names its series, so what it is counted under outlives its labels. It is counted
in coarser series as well, which tell less of it (:data:`GRAINS`): there may be thousands of combinations of everything,
and reports that ask for little need not add them all up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import bindparam

from service.audit.dialect import Dialect
from service.store.statement import Query
from service.store.tables import series


@dataclass(frozen=True, slots=True)
class Series:
    """One combination; ``labels`` is the JSON of the row."""

    #: Which of :data:`GRAINS` it is.
    grain: int
    project_id: bytes
    key_id: bytes | None
    model: str | None
    agent: str | None
    deployment_id: str | None
    status: str
    error_code: str | None
    service_tier: str | None
    stream: bool
    background: bool
    labels: str | None

    def digest(self) -> bytes:
        """The id of the series."""
        told = repr(tuple([getattr(self, name) for name in self.__slots__]))
        return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()


#: What the series of each grain tell; the first tells everything, and those behind it are looked at before it.
GRAINS: Final[tuple[frozenset[str], ...]] = (
    frozenset(field.name for field in fields(Series)),
    frozenset({"model", "agent", "status", "error_code", "service_tier"}),
    frozenset({"model", "key_id"}),
    frozenset({"model", "deployment_id"}),
    frozenset({"labels"}),
)
_NOTHING: Final = {"status": "", "stream": False, "background": False}


@lru_cache(maxsize=8_192)
def all_grains(full: Series) -> Mapping[bytes, Series]:
    """A series and the coarser ones that its interactions are counted in too, by their ids, the series first."""
    return {one.digest(): one for one in (full, *(_coarser(full, grain) for grain in range(1, len(GRAINS))))}


def _coarser(full: Series, grain: int) -> Series:
    known = GRAINS[grain]
    changes: dict[str, Any] = {
        name: _NOTHING.get(name) for name in GRAINS[0] - known - {"grain", "project_id"}
    }
    return replace(full, grain=grain, **changes)


def grain_for(columns: Collection[str]) -> int:
    """The grain that tells these columns with the fewest series."""
    for grain in range(1, len(GRAINS)):
        if GRAINS[grain].issuperset(columns):
            return grain
    return 0


def has_few(grain: int) -> bool:
    """Whether a grain has few series, as all have that do not tell what callers label interactions with."""
    return "labels" not in GRAINS[grain]


def of_row(it: Mapping[str, Any]) -> Series:
    """The series of an interaction with the columns of its row."""
    return Series(
        grain=0,
        project_id=it["project_id"],
        key_id=it["key_id"],
        model=it["model"] if it["model"] is not None else it["model_requested"],
        agent=it["agent"],
        deployment_id=it["deployment_id"],
        status=it["status"],
        error_code=it["error_code"],
        service_tier=it["service_tier"],
        stream=bool(it["stream"]),
        background=bool(it["background"]),
        labels=it["labels"],
    )


def of_columns(row: Sequence[Any]) -> Series:
    """A series as it was read: the columns of the table without its id."""
    told = dict(zip((column.name for column in series.c if column.name != "id"), row, strict=True))
    return Series(**{**told, "stream": bool(told["stream"]), "background": bool(told["background"])})


def insert_into(dialect: Dialect) -> Query:
    """The statement that adds a series, unless it is known."""
    values = {column.name: bindparam(column.name, type_=column.type) for column in series.c}
    return Query("insert series", dialect.insert(series).values(values).on_conflict_do_nothing())
