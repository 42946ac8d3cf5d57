"""The text of a batch: its kinds as one PostgreSQL statement, whose rows come as arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from sqlalchemy import ARRAY, FromClause, bindparam, column, func, make_url, select, table
from sqlalchemy.dialects import postgresql

from service.store.queries import compile_statement
from service.store.statement import BatchStatement, Particulars
from service.store.statements import FINISH
from service.store.tables import Key

DIALECT = make_url("postgresql+asyncpg://").get_dialect()()

_PARAMETER = re.compile(r"\$(\d+)")
_finished = table("finished", column("id", Key), column("deleted_at"), column("erased_at"))
_PARTICULARS = Particulars(
    postgresql.insert,
    lambda rows: select(_finished.c.id).where(
        _finished.c.id == rows.c.interaction_id, _finished.c.deleted_at.is_(None)
    ),
    lambda rows: select(_finished.c.id).where(
        _finished.c.id == rows.c.interaction_id, _finished.c.erased_at.is_(None)
    ),
)


def as_one_statement(kinds: Sequence[BatchStatement]) -> str:
    """All kinds of a batch as one statement: one round trip, and a transaction by itself; gives the rows finished.

    The parts see the database as it was before the statement, except for rows that they update: those they lock and
    look at anew. So a response is written where ``finished`` has its interaction, and otherwise the parts do not need
    each other's rows, because the writer never puts two callers' writes of one interaction into one batch.
    """
    parts: list[str] = []
    used = 0
    for place, statement in enumerate(kinds):
        text = _with_later_parameters(text_of(statement), used)
        if statement is FINISH:
            returned = ", ".join(f"interactions.{name}" for name in _finished.c.keys())  # noqa: SIM118
            parts.insert(0, f"finished AS ({text} RETURNING {returned})")
        else:
            parts.append(f"kind_{place} AS ({text})")
        used += len(statement.columns)
    result = "(SELECT count(*) FROM finished)" if FINISH in kinds else "0"
    return f"WITH {', '.join(parts)} SELECT {result}"


@cache
def text_of(statement: BatchStatement) -> str:
    """One kind of a batch as a statement that takes an array for each of its columns."""
    return compile_statement(statement.build(_rows_of(statement), _PARTICULARS), DIALECT).string


def _with_later_parameters(text: str, by: int) -> str:
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + by}", text)


def _rows_of(statement: BatchStatement) -> FromClause:
    arrays = [bindparam(f"{c.name}_rows", type_=ARRAY(c.type)) for c in statement.columns]
    columns = [column(c.name, c.type) for c in statement.columns]
    return func.unnest(*arrays).table_valued(*columns, name="rows").render_derived()
