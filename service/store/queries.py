"""Reads, compiled once for a database and handed to its driver with their arguments in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ClauseElement, Dialect, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from service.store.statement import Query


def compile_statement(statement: Executable, dialect: Dialect) -> SQLCompiler:
    """A statement's text and parameters in the words of one database."""
    return cast(SQLCompiler, cast(ClauseElement, statement).compile(dialect=dialect))


class CompiledQueries:
    """The texts of one database's queries, compiled when first asked for."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def prepare(self, query: Query, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The text of a query and its arguments; constants of the query are filled in."""
        text, order, constants = self._compiled(query)
        return text, [parameters[name] if name in parameters else constants[name] for name in order]

    def prepare_many(self, query: Query, many: Sequence[Mapping[str, Any]]) -> tuple[str, list[list[Any]]]:
        """The text of a query and the arguments of each execution, which all have the same names."""
        text, order, _ = self._compiled(query)
        given = many[0].keys()
        if all(name in given for name in order):
            return text, [[parameters[name] for name in order] for parameters in many]
        return text, [self.prepare(query, parameters)[1] for parameters in many]

    def _compiled(self, query: Query) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        known = self._known.get(query.name)
        if known is None:
            compiled = compile_statement(query.select, self._dialect)
            known = (compiled.string, tuple(compiled.positiontup or ()), dict(compiled.params))
            self._known[query.name] = known
        return known
