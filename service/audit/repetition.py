"""One statement with a part that is repeated for each of many values, for a database that has no ``LATERAL``.

The part is compiled once and repeated as text: SQLAlchemy takes a millisecond for each time it compiles it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, cast

from sqlalchemy import ClauseElement, Select, TextClause, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

_NAMED: Final = sqlite.dialect(paramstyle="named")
_PARAMETER: Final = re.compile(r":(\w+)")


def union_of_repetitions(
    first: Select[Any], part: Select[Any], marker: str, values: Sequence[str], ending: str
) -> TextClause:
    """The rows of ``first``, and of ``part`` once for each value in the place of its marker; then the ending."""
    texts, parameters = _compiled(first, "first")
    repeated, others = _compiled(part, "part")
    parts = [texts, *(repeated.replace(marker, value) for value in values)]
    union = " UNION ALL ".join(f"SELECT * FROM ({one})" for one in parts)  # noqa: S608  SQL of our own
    return text(f"{union} {ending}").bindparams(**parameters, **others)


def _compiled(statement: Select[Any], prefix: str) -> tuple[str, dict[str, Any]]:
    element = cast(ClauseElement, statement)
    compiled = cast(SQLCompiler, element.compile(dialect=_NAMED, compile_kwargs={"render_postcompile": True}))
    named = _PARAMETER.sub(rf":{prefix}_\1", compiled.string)
    return named, {f"{prefix}_{name}": value for name, value in compiled.params.items()}
