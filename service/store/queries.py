"""Reads, compiled once for a database and handed to its driver with their arguments in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from sqlalchemy import ClauseElement, Dialect, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from service.store.statement import Query

#: Texts that are kept for all databases of a process; there are fewer queries than that.
_MOST_KEPT: Final = 1024


def compile_statement(statement: Executable, dialect: Dialect) -> SQLCompiler:
    """A statement's text and parameters in the words of one database."""
    return cast(SQLCompiler, cast(ClauseElement, statement).compile(dialect=dialect))


@dataclass(frozen=True, slots=True)
class _Text:
    """What a driver is given of a query: its text, the names of its arguments in order, and its constants."""

    text: str
    order: tuple[str, ...]
    constants: Mapping[str, Any]


@lru_cache(_MOST_KEPT)
def _compiled(query: Query, dialect: Dialect) -> _Text:
    """A query in the words of one database; the same for every one of that kind that the process opens."""
    compiled = compile_statement(query.select, dialect)
    return _Text(compiled.string, tuple(compiled.positiontup or ()), dict(compiled.params))


class CompiledQueries:
    """The texts of one database's queries, compiled when first asked for."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[str, _Text] = {}

    def prepare(self, query: Query, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The text of a query and its arguments; constants of the query are filled in."""
        known = self._text(query)
        return known.text, [
            parameters[name] if name in parameters else known.constants[name] for name in known.order
        ]

    def prepare_many(self, query: Query, many: Sequence[Mapping[str, Any]]) -> tuple[str, list[list[Any]]]:
        """The text of a query and the arguments of each execution, which all have the same names."""
        known = self._text(query)
        given = many[0].keys()
        if all(name in given for name in known.order):
            return known.text, [[parameters[name] for name in known.order] for parameters in many]
        return known.text, [self.prepare(query, parameters)[1] for parameters in many]

    def _text(self, query: Query) -> _Text:
        known = self._known.get(query.name)
        if known is None:
            known = self._known[query.name] = _compiled(query, self._dialect)
        return known
