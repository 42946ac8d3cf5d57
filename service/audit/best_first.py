"""The order of how well something matches."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Subquery, select


def best_first(found: Subquery) -> Select[Any]:
    """What was found, the best first; the last column of ``found`` is the rank, and is not told."""
    *columns, rank = found.c
    return select(*columns).order_by(rank, columns[0].desc())
