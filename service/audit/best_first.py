"""The order of how well something matches."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Subquery, func, select


def best_first(found: Subquery, offset: int, limit: int) -> Select[Any]:
    """A part of what was found, the best first, of which the last column is the rank.

    Each row ends with the keys of the oldest and the newest of all that was found.
    """
    *columns, rank = found.c
    key = columns[0]
    oldest = func.first_value(key).over(order_by=key.asc())
    newest = func.first_value(key).over(order_by=key.desc())
    return select(*columns, oldest, newest).order_by(rank, key.desc()).offset(offset).limit(limit)
