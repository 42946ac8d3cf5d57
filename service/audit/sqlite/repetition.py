"""One statement with a part that is repeated for each of many values, for a database that has no ``LATERAL``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Executable, TextClause, text

from service.store.compiling import Named

_PLACE: Final = "/*repetition*/"


def place_of_repetition() -> TextClause:
    """Stands for the repetition in the statement that it is a part of."""
    return text(f"SELECT {_PLACE}")


@dataclass(frozen=True, slots=True)
class Repetition:
    """A statement with :func:`place_of_repetition` for its rows: those of ``first``, and of ``part`` for each value.

    The parameter ``name`` of the part is the value; the ending is of their union, which tells no row twice. Texts have
    arguments by position.
    """

    whole: Executable
    first: Executable
    part: Executable
    name: str
    values: Sequence[Any]
    ending: str

    def composed(self, compiled: Callable[[Executable], Named]) -> tuple[str, list[Any]]:
        """Its text and its arguments in order."""
        whole, first, part = compiled(self.whole), compiled(self.first), compiled(self.part)
        texts = [first.text, *([part.text] * len(self.values))]
        union = " UNION ".join(f"SELECT * FROM ({one})" for one in texts)  # noqa: S608  SQL of our own
        arguments = first.arguments()
        for value in self.values:
            arguments += [value if name == self.name else part.values[name] for name in part.names]
        before, _, behind = whole.text.partition(f"SELECT {_PLACE}")
        ahead = before.count("?")
        told = whole.arguments()
        return f"{before}{union} {self.ending}{behind}", [*told[:ahead], *arguments, *told[ahead:]]
