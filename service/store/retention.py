"""The statements by which interactions expire: a tombstone as of a delete, that says so.

An interaction that has expired is hidden like a deleted one, and its content is erased like that of one
(:mod:`service.store.deletion`): at once, or with the last that needs it. Its row stays with its figures and labels, so
that usage and cost can be told for ever; what is derived from its content has to be derived before.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Executable,
    FromClause,
    bindparam,
    case,
    func,
    literal_column,
    null,
    select,
    update,
)

from service.store.statement import BatchStatement, Particulars, Query
from service.store.tables import Key, holds, interactions

#: Interactions that are looked at at a time.
PAGE: Final = 1_000
#: Whether figures, cost and parts in the roll-ups have been derived from an interaction (service/audit/derivation.py).
_DERIVED: Final = interactions.c.derived_state.in_([literal_column("1"), literal_column("2")])
#: The name of the mark (:data:`service.store.tables.progress`) before which everything is deleted.
MARK: Final = "retention"


def _expire(rows: FromClause, database: Particulars) -> Executable:
    count = select(func.count()).select_from(holds).scalar_subquery()
    return (
        update(interactions)
        .values(
            deleted_at=rows.c.expired_at,
            expired_at=rows.c.expired_at,
            updated_at=rows.c.expired_at,
            # A message may quote the content.
            error_message=null(),
        )
        .where(
            interactions.c.id == rows.c.id,
            interactions.c.deleted_at.is_(None),
            interactions.c.completed_at.is_not(None),
            _DERIVED,
            count == rows.c.holds,
        )
    )


#: Does nothing when there are more holds than ``holds``, or when the interaction has not ended and been derived from.
EXPIRE = BatchStatement(
    "expire interaction",
    (Column("id", Key), Column("expired_at", BigInteger), Column("holds", BigInteger)),
    _expire,
    looks_again=True,
)
#: What is not deleted, of a range of keys, in their order.
LIVING = Query(
    "what may expire",
    select(
        interactions.c.id,
        interactions.c.project_id,
        interactions.c.labels,
        case((interactions.c.completed_at.is_not(None), 1), else_=0),
        case((_DERIVED, 1), else_=0),
        interactions.c.request_bytes + func.coalesce(interactions.c.response_bytes, 0),
    )
    .where(
        interactions.c.id > bindparam("after", type_=Key),
        interactions.c.id < bindparam("before", type_=Key),
        interactions.c.deleted_at.is_(None),
    )
    .order_by(interactions.c.id)
    .limit(PAGE),
)
