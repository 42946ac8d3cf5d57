"""Reads, compiled once for a database and handed to its driver with their arguments in order."""

from __future__ import annotations

from collections.abc import Mapping
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
        known = self._known.get(query.name)
        if known is None:
            compiled = compile_statement(query.select, self._dialect)
            known = (compiled.string, tuple(compiled.positiontup or ()), dict(compiled.params))
            self._known[query.name] = known
        text, order, constants = known
        return text, [parameters[name] if name in parameters else constants[name] for name in order]
