"""Lists of interactions: newest or oldest first, a page at a time, by keyset.

A page is what follows a key in the order of keys, which is that of time; what is written meanwhile moves nothing, since
nobody's place depends on how many come before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Select, literal, select

from service.audit import conditions, cursors, summaries
from service.audit.filters import Filters
from service.store.reports import Reading, Reports
from service.store.tables import Key, interactions

Order = Literal["desc", "asc"]
DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a list in order, and the cursor behind them if there are more."""

    rows: Sequence[Sequence[Any]]
    next_cursor: str | None


class Listing:
    """Lists the interactions of one project at a time (promise P6)."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def summaries(
        self, project_id: bytes, filters: Filters, *, order: Order, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of summaries and the cursor behind it; raises :class:`~service.errors.ServiceError`."""
        async with self._reports.reading() as reading:
            page = await read_page(
                reading, summaries.columns(), project_id, filters, order=order, limit=limit, cursor=cursor
            )
        return [summaries.of_row(row) for row in page.rows], page.next_cursor


async def read_page(
    reading: Reading,
    columns: Sequence[ColumnElement[Any]],
    project_id: bytes,
    filters: Filters,
    *,
    order: Order = "desc",
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page:
    """A page of the interactions that the filters mean; the first of ``columns`` is ``interactions.id``.

    Raises :class:`~service.errors.InvalidRequest` for a cursor that is not one of this list.
    """
    about = order.encode() + project_id + filters.digest()
    after = None if cursor is None else cursors.read(cursor, about)
    rows = await reading.fetch(
        page_of(columns, project_id, filters, order=order, limit=limit + 1, after=after)
    )
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, cursors.write(rows[-1][0], about) if more else None)


def page_of(
    columns: Sequence[ColumnElement[Any]],
    project_id: bytes,
    filters: Filters,
    *,
    order: Order,
    limit: int,
    after: bytes | None,
) -> Select[Any]:
    """The statement for what follows a key."""
    key = interactions.c.id
    chosen = select(*columns).where(*conditions.of_filters(filters, project_id))
    if after is not None:
        place = literal(after, Key)
        chosen = chosen.where(key < place if order == "desc" else key > place)
    return chosen.order_by(key.desc() if order == "desc" else key.asc()).limit(limit)
