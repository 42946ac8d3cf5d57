"""The order of how well something matches."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Subquery, select


def best_first(found: Subquery) -> Select[Any]:
    """What was found, the best first, of which the last column is the rank."""
    *columns, rank = found.c
    return select(*columns).order_by(rank, columns[0].desc())
