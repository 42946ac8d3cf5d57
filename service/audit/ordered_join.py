"""A join whose order is told: SQLite's planner knows little of how many rows it will meet."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.selectable import Join


class OrderedJoin(Join):
    """A join that SQLite executes from left to right."""

    inherit_cache = True


@compiles(OrderedJoin, "sqlite")
def _cross_join(element: OrderedJoin, compiler: Any, **options: Any) -> str:
    left = compiler.process(element.left, **{**options, "asfrom": True})
    right = compiler.process(element.right, **{**options, "asfrom": True})
    condition = compiler.process(element.onclause, **{**options, "asfrom": False})
    return f"{left} CROSS JOIN {right} ON {condition}"
