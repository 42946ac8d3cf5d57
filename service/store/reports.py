"""Reads of reports: any statement, in a snapshot of its own, on connections that no create waits for.

Reports are planned anew each time and by the planner's own judgement, unlike the reads of the hot path, and end after
:data:`TIMEOUT` seconds, so that one that asks for too much holds nothing for long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any, Final, Protocol, cast

from sqlalchemy import ClauseElement, Dialect, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from service.errors import DeadlineExceeded, ServiceUnavailable
from service.store.compiling import Composed
from service.store.statement import Query

#: Seconds that one report may take.
TIMEOUT: Final = 30.0
#: Seconds that a report waits for a connection.
ACQUIRE_TIMEOUT: Final = 10.0

Rows = Sequence[Sequence[Any]]


class Plan(Enum):
    """What the planner of a database that guesses is told of the next statements."""

    #: The first rows of an order that an index has.
    WALK = 1
    #: All rows that an index without an order finds.
    COLLECT = 2
    #: Rows whose keys are known.
    LOOK_UP = 3
    #: The same by statements that are repeated with other keys, and are planned once.
    LOOK_UP_AGAIN = 4


class Prepared:
    """A statement that is compiled once and run with other values each time: compiling a long one takes milliseconds.

    Parameters without a value keep the one that they were made with.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._compiled: tuple[str, tuple[str, ...], Mapping[str, Any]] | None = None

    def with_values(self, values: Mapping[str, Any], dialect: Dialect) -> tuple[str, list[Any]]:
        """Its text and its arguments in order; always for the same dialect."""
        if self._compiled is None:
            compiled = _compiled(self._statement, dialect)
            self._compiled = (compiled.string, tuple(compiled.positiontup or ()), compiled.params)
        text, names, own = self._compiled
        return text, [values[name] if name in values else own[name] for name in names]


class Reading(Protocol):
    """One snapshot of the database."""

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""

    async def fetch(self, statement: Executable | Composed) -> Rows:
        """All rows of a statement, as the driver gives them; keys are 16 bytes.

        Raises :class:`DeadlineExceeded` when it takes too long, :class:`ServiceUnavailable` when the database cannot
        be read.
        """

    async def plan(self, plan: Plan) -> None:
        """Have the statements that follow executed in this way, where the database needs to be told."""

    async def ask(self, query: Query, parameters: Mapping[str, Any]) -> Rows:
        """All rows of a query that is asked so often that its text is kept; raises as :meth:`fetch` does."""

    async def fetch_prepared(self, statement: Prepared, values: Mapping[str, Any]) -> Rows:
        """All rows of a statement with these values for its parameters; raises as :meth:`fetch` does."""


class Reports(Protocol):
    """Where reports read."""

    async def start(self) -> None:
        """Open connections; raises :class:`~service.errors.DatabaseUnusable`."""

    async def close(self) -> None:
        """Close them."""

    def reading(self, *, timeout: float = TIMEOUT) -> AbstractAsyncContextManager[Reading]:
        """A snapshot, for at most so many seconds; raises :class:`ServiceUnavailable` when too many are being read."""


def too_slow(timeout: float) -> DeadlineExceeded:
    """The answer to who asks for too much at once."""
    return DeadlineExceeded(
        f"The store did not answer within {timeout:g} seconds; narrow the time with 'from' and 'to', or add filters."
    )


def unreadable() -> ServiceUnavailable:
    """The answer while the database cannot be read."""
    return ServiceUnavailable("The store cannot be read now.", retry_after=1)


def too_many() -> ServiceUnavailable:
    """The answer to one report too many."""
    return ServiceUnavailable("Too many reports are being made; try again.", retry_after=2)


def _compiled(statement: Executable, dialect: Dialect) -> SQLCompiler:
    element = cast(ClauseElement, statement)
    return cast(SQLCompiler, element.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}))
