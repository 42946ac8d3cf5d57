"""Gives terms that there were none of yet to interactions that were derived from before.

A mark in ``progress`` says how far that is, in the order of keys; without one every interaction has them. What still
waits to be derived from is left out: it gets all its terms then.

Processes of the version before, which may go on to derive without these terms, have marks of their own since the
migration. As long as one of them lives, it is not begun, nor for a while afterwards: a process that ends gives up its
place among the living before it has ended all that it does. So nothing is lacking once this has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from sqlalchemy import Text, bindparam, delete, literal, literal_column, or_, select, text, update

from service.audit import derivation, terms
from service.audit.dialect import Dialect
from service.store.clock import Clock
from service.store.recordings import POSITION
from service.store.reports import Reading
from service.store.script import Ask, Execute, Script
from service.store.statement import Query
from service.store.tables import Key, interactions, leases, progress

#: The name of the mark, and the one of versions before this, which had terms of numbers to give and no others.
MARK: Final = "terms of keys"
_FORMER_MARK: Final = "terms"
_NAME: Final = {"name": MARK}
_MARKED: Final = progress.c.name == bindparam("name", type_=Text)
_BESIDE: Final = progress.c.name.like(bindparam("beside", f"{MARK} beside %", type_=Text))
_FORMER: Final = or_(
    progress.c.name == literal(_FORMER_MARK, Text),
    progress.c.name.like(literal(f"{_FORMER_MARK} beside %", Text)),
)
_FIRST_KEY: Final = bytes(16)
_MOVE: Final = Query(
    "move the mark of terms",
    update(progress).values(position=bindparam("new_position", type_=Key)).where(_MARKED),
)
_END: Final = Query("end the marks of terms", delete(progress).where(or_(_MARKED, _BESIDE, _FORMER)))
#: Who may still derive without these terms.
_LIVING: Final = Query(
    "processes of the version before",
    select(leases.c.interaction_id)
    .select_from(progress.join(leases, leases.c.interaction_id == progress.c.position))
    .where(_BESIDE, leases.c.kind == literal_column("'process'", Text), leases.c.due_at > Clock()),
)


async def is_done(reading: Reading) -> bool:
    """Whether every interaction that was derived from has all of its terms."""
    return not await reading.ask(POSITION, _NAME)


async def lacking(reading: Reading) -> frozenset[str]:
    """Of which of :data:`~service.audit.terms.LATER` some interactions that were derived from have no terms yet."""
    if await is_done(reading):
        return frozenset()
    if await reading.ask(POSITION, {"name": _FORMER_MARK}):
        return terms.LATER
    return terms.LATER.difference(terms.LATER_NUMBERS)


async def must_wait(reading: Reading) -> bool:
    """Whether a process still lives that derives without these terms."""
    return bool(await reading.ask(_LIVING, {}))


@dataclass(frozen=True, slots=True)
class FillingIn:
    """A step of it, in the words of one database."""

    dialect: Dialect

    def step(self, count: int) -> Callable[[], Script]:
        """A script that goes on by ``count`` interactions; its result is how many it found, 0 at the end
        and as long as it has to wait.
        """

        def script() -> Script:
            marks = yield Ask(POSITION, _NAME)
            if not marks:
                return 0
            if (yield Ask(_LIVING, {})):
                if marks[0][0] != _FIRST_KEY:
                    yield Execute(_MOVE, [{**_NAME, "new_position": _FIRST_KEY}])
                return 0
            found = yield Ask(_derived(count), {"after": marks[0][0]})
            rows = [dict(zip(terms.LATER_COLUMNS, row, strict=True)) for row in found]
            added = [
                {"term": term, "interaction_id": row["id"]} for row in rows for term in terms.of_later(row)
            ]
            yield Execute(derivation.statements(self.dialect).terms, added)
            if not rows:
                yield Execute(_END, [_NAME])
            else:
                yield Execute(_MOVE, [{**_NAME, "new_position": rows[-1]["id"]}])
            return len(rows)

        return script


@cache
def _derived(count: int) -> Query:
    return Query(
        f"next {count} that are derived",
        select(*(interactions.c[name] for name in terms.LATER_COLUMNS))
        .where(interactions.c.id > bindparam("after", type_=Key), text("derived_state NOT IN (0, 3)"))
        .order_by(interactions.c.id)
        .limit(count),
    )
