"""What the processes on one database tell one another of their deployments: usage of a minute, cooldowns, load.

Each process writes rows of its own, once a second or so and all at once, and reads those of the others: no row has two
writers, and nothing here is on a request's way.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, Executable, FromClause, bindparam, delete, func, select, true
from sqlalchemy.sql.dml import Insert

from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import Key, deployment_states


class SharedState(NamedTuple):
    """One process's word on one deployment; see :data:`~service.store.tables.deployment_states`."""

    replica: bytes
    deployment_id: str
    minute: int
    requests: int
    tokens: int
    cooling_until: int | None
    asked: bool
    told_at: int
    running: int = 0
    latency: int | None = None

    def row(self) -> tuple[object, ...]:
        """The members in the order of ``SHARE_STATE``."""
        return (*self[:6], +self.asked, *self[7:])


_STATE = columns_of(
    deployment_states,
    "replica deployment_id minute requests tokens cooling_until asked told_at running latency",
)


def _share(rows: FromClause, database: Particulars) -> Executable:
    names = [column.name for column in _STATE]
    chosen = select(*(rows.c[name] for name in names)).where(true())
    statement = database.insert(deployment_states).from_select(names, chosen)
    excluded = statement.excluded
    result: Insert = statement.on_conflict_do_update(
        index_elements=[deployment_states.c.replica, deployment_states.c.deployment_id],
        set_={name: excluded[name] for name in names[2:]},
    )
    return result


def _forget(rows: FromClause, database: Particulars) -> Executable:
    ends = select(func.max(rows.c.told_at)).scalar_subquery()
    return delete(deployment_states).where(deployment_states.c.told_at < ends)


SHARE_STATE = BatchStatement("share deployment state", _STATE, _share)
#: Rows of processes that have told nothing since ``told_at``.
FORGET_STATES = BatchStatement(
    "forget deployment states", columns_of(deployment_states, "replica told_at"), _forget
)
SHARED_STATES = Query(
    "deployment states of others",
    select(*(deployment_states.c[column.name] for column in _STATE)).where(
        deployment_states.c.told_at >= bindparam("since", type_=BigInteger),
        deployment_states.c.replica != bindparam("replica", type_=Key),
    ),
)
