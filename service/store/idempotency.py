"""Idempotency keys: which interaction a project's key has made, decided by a unique constraint.

Who brings a key claims it in the transaction of its intent. Of any number of claims, in one process or many, the
database lets one in: the row of the key then names that interaction, and only what :func:`claimed` has made of a
statement writes for an interaction that has its key. Everybody else's intent is not written at all, and a look at the
key (:data:`FIND_KEY`) says whose it is. A key that is past its time may be claimed anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Executable,
    FromClause,
    Text,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    select,
)
from sqlalchemy.sql.dml import Insert

from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import Key, idempotency_keys

#: Keys that a sweep looks at in one query.
SWEPT_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """A wish for a key; ``fingerprint`` is of the request, and times are microseconds since the epoch."""

    key: str
    fingerprint: bytes
    claimed_at: int
    expires_at: int

    def row(self, interaction_id: bytes, project_id: bytes) -> tuple[object, ...]:
        """The members in the order of :data:`CLAIM_KEY`."""
        return interaction_id, project_id, self.key, self.fingerprint, self.claimed_at, self.expires_at


class KeyTaken(Exception):
    """The key has another interaction; nothing was written of this one."""


def _claim(rows: FromClause, database: Particulars) -> Executable:
    names = [column.name for column in _CLAIM]
    place = (rows.c.project_id, rows.c.idempotency_key)
    # PostgreSQL refuses to look at one key twice: of the same batch, the oldest interaction gets it.
    rank = func.row_number().over(partition_by=place, order_by=rows.c.interaction_id).label("rank")
    ranked = select(rows, rank).subquery("ranked")
    chosen = (
        select(*(ranked.c[name] for name in names))
        .where(ranked.c.rank == literal_column("1"))
        # Always in the same order, so that two processes with the same keys do not wait for each other in a circle.
        .order_by(ranked.c.project_id, ranked.c.idempotency_key)
    )
    statement = database.insert(idempotency_keys).from_select(names, chosen)
    excluded = statement.excluded
    result: Insert = statement.on_conflict_do_update(
        index_elements=[idempotency_keys.c.project_id, idempotency_keys.c.idempotency_key],
        set_={name: excluded[name] for name in ("interaction_id", "fingerprint", "claimed_at", "expires_at")},
        where=idempotency_keys.c.expires_at <= excluded.claimed_at,
    )
    return result


def claimed(statement: BatchStatement) -> BatchStatement:
    """The same statement for those of its rows whose interaction, their first column, has its key.

    It stands behind :data:`CLAIM_KEY` and looks again: a claim may have waited for somebody else's.
    """
    first = statement.columns[0].name

    def build(rows: FromClause, database: Particulars) -> Executable:
        has_key = exists(
            select(literal_column("1")).where(idempotency_keys.c.interaction_id == rows.c[first])
        )
        return statement.build(select(rows).where(has_key).subquery("claimed"), database)

    return BatchStatement(
        f"{statement.name} if claimed", statement.columns, build, packs=statement.packs, looks_again=True
    )


def _release(rows: FromClause, database: Particulars) -> Executable:
    return delete(idempotency_keys).where(
        idempotency_keys.c.interaction_id.in_(select(rows.c.interaction_id))
    )


_CLAIM = columns_of(
    idempotency_keys, "interaction_id project_id idempotency_key fingerprint claimed_at expires_at"
)

CLAIM_KEY = BatchStatement("claim idempotency key", _CLAIM, _claim)
#: Lets another interaction have the key of this one. Looks again, because its key may be claimed in the same batch.
RELEASE_KEY = BatchStatement(
    "release idempotency key", (Column("interaction_id", Key),), _release, looks_again=True
)


def _find() -> Any:
    return select(idempotency_keys.c.interaction_id, idempotency_keys.c.fingerprint).where(
        idempotency_keys.c.project_id == bindparam("project_id", type_=Key),
        idempotency_keys.c.idempotency_key == bindparam("idempotency_key", type_=Text),
        idempotency_keys.c.expires_at > bindparam("now", type_=BigInteger),
    )


FIND_KEY = Query("find idempotency key", _find())
EXPIRED_KEYS = Query(
    "expired idempotency keys",
    select(idempotency_keys.c.interaction_id)
    .where(idempotency_keys.c.expires_at <= bindparam("now", type_=BigInteger))
    .order_by(idempotency_keys.c.expires_at)
    .limit(SWEPT_AT_ONCE),
)
