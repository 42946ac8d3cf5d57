"""The texts of statements: those that differ in nothing but their values are compiled once.

To compile a statement of a report takes as long as to execute it, and on the processor of all callers. SQLAlchemy tells
which statements are alike, and keeps their texts only for connections of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast, runtime_checkable

from sqlalchemy import BindParameter, ClauseElement, Dialect, Executable
from sqlalchemy.sql.compiler import SQLCompiler

#: Texts that are kept of one database: the longest unused make room.
_MOST_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class Named:
    """A text, the names of its arguments in order, and their values."""

    text: str
    names: tuple[str, ...]
    values: Mapping[str, Any]

    def arguments(self) -> list[Any]:
        """The values in order."""
        return [self.values[name] for name in self.names]


@runtime_checkable
class Composed(Protocol):
    """A statement of several that are compiled on their own."""

    def composed(self, compiled: Callable[[Executable], Named]) -> tuple[str, list[Any]]:
        """Its text and its arguments in order."""


@dataclass(frozen=True, slots=True)
class _Text:
    """What statements that are alike share.

    ``places`` says where the value of a name stands among their parameters; ``constants`` has those that come from no
    statement, but from how a database says it.
    """

    text: str
    names: tuple[str, ...]
    places: Mapping[str, int]
    constants: Mapping[str, Any]


class Compiling:
    """Compiles for one database."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        #: None for statements whose text depends on their values.
        self._kept: dict[Any, _Text | None] = {}

    def prepared(self, statement: Executable | Composed) -> tuple[str, list[Any]]:
        """A statement's text and its arguments in order."""
        if isinstance(statement, Composed):
            return statement.composed(self.named)
        named = self.named(statement)
        return named.text, named.arguments()

    def named(self, statement: Executable) -> Named:
        """A statement's text, with the names of its arguments."""
        element = cast(ClauseElement, statement)
        # What SQLAlchemy's own examples use to cache by statements.
        like = element._generate_cache_key()
        if like is None:
            return self._compiled(element)
        if like.key in self._kept:
            kept = self._kept.pop(like.key)
        else:
            kept = self._text(element, like.bindparams)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
        self._kept[like.key] = kept
        if kept is None:
            return self._compiled(element)
        values = {name: like.bindparams[place].effective_value for name, place in kept.places.items()}
        return Named(kept.text, kept.names, {**kept.constants, **values})

    def _compiled(self, element: ClauseElement) -> Named:
        compiled = cast(
            SQLCompiler,
            element.compile(dialect=self._dialect, compile_kwargs={"render_postcompile": True}),
        )
        return Named(compiled.string, tuple(compiled.positiontup or ()), compiled.params)

    def _text(self, element: ClauseElement, parameters: Sequence[BindParameter[Any]]) -> _Text | None:
        compiled = cast(SQLCompiler, element.compile(dialect=self._dialect))
        if compiled.post_compile_params:
            return None
        known = {parameter.key: place for place, parameter in enumerate(parameters)}
        named = {name: known.get(parameter.key) for parameter, name in compiled.bind_names.items()}
        return _Text(
            compiled.string,
            tuple(compiled.positiontup or ()),
            {name: place for name, place in named.items() if place is not None},
            {name: compiled.params[name] for name, place in named.items() if place is None},
        )
