"""What the process of a long export is told to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from service.audit import filters
from service.audit.filters import Filters
from service.audit.late_figures import LateFigures
from service.audit.prices import Prices, Told
from service.store.codec import Codec


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be exported; ``query`` are the filters as they were asked for, ``since`` and ``until`` their times.

    ``prices`` are what :class:`~service.audit.prices.Prices` tell of themselves.
    """

    project_id: bytes
    query: tuple[tuple[str, str], ...]
    since: int | None
    until: int | None
    after: str | None
    form: str
    with_media: bool
    prices: Told

    def to_bytes(self, database_url: str) -> bytes:
        """For the process to read."""
        told = {**asdict(self), "project_id": self.project_id.hex(), "database_url": database_url}
        return orjson.dumps(told)

    @classmethod
    def of(cls, data: bytes) -> tuple[str, Errand]:
        """The database's URL and the errand that :meth:`to_bytes` has written."""
        told: dict[str, Any] = orjson.loads(data)
        query = tuple((name, value) for name, value in told.pop("query"))
        database_url: str = told.pop("database_url")
        project_id = bytes.fromhex(told.pop("project_id"))
        own, known = told.pop("prices")
        prices = {name: (asked, made) for name, (asked, made) in own.items()}, known
        return database_url, cls(query=query, project_id=project_id, prices=prices, **told)

    def late_figures(self, packing: Codec) -> LateFigures:
        """What works out the costs that are not in the rows yet."""
        return LateFigures(packing, Prices(*self.prices))

    def filters(self) -> Filters:
        """Which interactions are meant."""
        return replace(filters.parse(self.query)[0], since=self.since, until=self.until)
