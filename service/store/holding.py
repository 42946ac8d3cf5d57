"""Who holds an open interaction: the process whose word about it counts, as long as that process is alive.

A process is a row of the kind ``process`` in ``leases``, alive until its ``due_at`` by the database's clock, which it
puts off again and again: one write for all that it holds. Its ``tries`` say whether it takes who is silent for dead
(1): for a while nobody does who was silent itself (0); or that it has left (-1). Whatever is open names the process
that holds it (``owner_id``), from the intent on. Everything that is written of an open interaction is written only
where it still does, so a process that was silent for too long, and has lost what it held, changes nothing any more.
What a dead process holds is :data:`CLAIM`-ed by others that can go on with it (:mod:`service.store.remit`), and what is
handed back belongs to :data:`~service.store.tables.NOBODY`, who was never alive. What was brought in open has holders
of its own (:mod:`service.store.bringing_in`), who live for a while and do nothing.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    Select,
    Text,
    bindparam,
    case,
    delete,
    exists,
    insert,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import Insert

from service.store.clock import Clock
from service.store.remit import may_be_ended
from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import BROUGHT, NOBODY, Key, interactions, leases

#: Interactions that one read names at most.
PAGE: Final = 10_000
_PROCESS = literal_column("'process'", Text)
_NONE = literal_column("0", BigInteger)
_ONE = literal_column("1", BigInteger)
#: The ``tries`` of a process that has left: what it said before, and comes later, brings it back to life no more.
_LEFT = literal_column("-1", BigInteger)
_ME = bindparam("me", type_=Key)
_NOW = bindparam("now", type_=BigInteger)
_NOBODY = bindparam("nobody", NOBODY, type_=Key)
#: Whether it is a process, and none of those who hold what was brought in.
_IS_PROCESS = leases.c.interaction_id < bindparam("brought", BROUGHT, type_=Key)

#: What is told of an interaction that is taken over.
CLAIMED: Final = (
    "id",
    "project_id",
    "created_at",
    "stream",
    "background",
    "deployment_id",
    "upstream_id",
    "upstream_stored",
)


def _enter(rows: FromClause, database: Particulars) -> Executable:
    names = ["interaction_id", "kind", "due_at", "tries"]
    chosen = select(rows.c.interaction_id, _PROCESS, rows.c.due_at, _NONE).where(true())
    statement: Insert = database.insert(leases).from_select(names, chosen).on_conflict_do_nothing()
    return statement


def _hand_back(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(interactions)
        .values(owner_id=rows.c.nobody_id)
        .where(
            interactions.c.id == rows.c.id,
            interactions.c.owner_id == rows.c.owner_id,
            interactions.c.completed_at.is_(None),
        )
    )


#: A process begins; NOBODY's row, which is due since ever, comes with the first.
ENTER = BatchStatement("enter process", columns_of(leases, "interaction_id due_at"), _enter)
#: Give up open interactions, so that any process may have them at once.
HAND_BACK = BatchStatement(
    "hand back",
    (*columns_of(interactions, "id owner_id"), Column("nobody_id", Key)),
    _hand_back,
)


def _beat() -> Executable:
    # What comes late vouches for nothing: this process may have been silent since it said so.
    vouches = case((Clock() <= bindparam("vouches_until", type_=BigInteger), _ONE), else_=_NONE)
    return (
        update(leases)
        .values(due_at=Clock() + bindparam("lease", type_=BigInteger), tries=vouches)
        .where(leases.c.interaction_id == _ME, leases.c.kind == _PROCESS, leases.c.tries >= _NONE)
        .returning(Clock())
    )


def _enter_again() -> Executable:
    known = exists(select(_ONE).where(leases.c.interaction_id == _ME, leases.c.kind == _PROCESS))
    names = ["interaction_id", "kind", "due_at", "tries"]
    row = select(_ME, _PROCESS, Clock() + bindparam("lease", type_=BigInteger), _NONE).where(~known)
    return insert(leases).from_select(names, row).returning(Clock())


def _leave() -> Executable:
    return (
        update(leases)
        .values(due_at=Clock(), tries=_LEFT)
        .where(leases.c.interaction_id == _ME, leases.c.kind == _PROCESS)
        .returning(leases.c.interaction_id)
    )


def _shorten() -> Executable:
    longest = bindparam("longest", type_=BigInteger)
    return (
        update(leases)
        .values(due_at=longest)
        .where(leases.c.kind == _PROCESS, _IS_PROCESS, leases.c.due_at > longest)
        .returning(leases.c.interaction_id)
    )


def _expire() -> Executable:
    return (
        update(leases)
        .values(due_at=_NONE)
        .where(
            leases.c.kind == _PROCESS,
            _IS_PROCESS,
            or_(
                leases.c.interaction_id < bindparam("before", type_=Key),
                leases.c.due_at > bindparam("beyond", type_=BigInteger),
            ),
        )
        .returning(leases.c.interaction_id)
    )


def _forget_dead() -> Executable:
    holds = exists(
        select(_ONE).where(
            interactions.c.owner_id == leases.c.interaction_id, interactions.c.completed_at.is_(None)
        )
    )
    return (
        delete(leases)
        .where(
            leases.c.kind == _PROCESS,
            leases.c.due_at <= _NOW,
            leases.c.interaction_id != _NOBODY,
            ~holds,
        )
        .returning(leases.c.interaction_id)
    )


def _left_behind() -> Select[Any]:
    return (
        select(interactions.c.id)
        .select_from(leases.join(interactions, interactions.c.owner_id == leases.c.interaction_id))
        .where(
            leases.c.kind == _PROCESS,
            leases.c.due_at <= _NOW,
            leases.c.interaction_id != _ME,
            interactions.c.completed_at.is_(None),
            may_be_ended(),
        )
        .limit(1)
    )


def _claim(*conditions: ColumnElement[bool]) -> Executable:
    # A holder that goes on living at this moment waits until this is committed, or keeps what it holds.
    silent = (
        select(leases.c.interaction_id)
        .where(leases.c.kind == _PROCESS, leases.c.due_at <= _NOW, leases.c.interaction_id != _ME)
        .with_for_update(read=True, skip_locked=True)
        .cte("silent")
    )
    taken = (
        select(interactions.c.id)
        .select_from(silent.join(interactions, interactions.c.owner_id == silent.c.interaction_id))
        .where(interactions.c.completed_at.is_(None), may_be_ended(), *conditions)
        .limit(bindparam("most", type_=BigInteger))
        .with_for_update(of=interactions, skip_locked=True)
        .cte("taken")
    )
    return (
        update(interactions)
        .values(owner_id=_ME)
        .where(interactions.c.id.in_(select(taken.c.id)), interactions.c.completed_at.is_(None))
        .returning(*(interactions.c[name] for name in CLAIMED))
    )


def _release() -> Executable:
    return (
        update(interactions)
        .values(owner_id=_NOBODY)
        .where(interactions.c.owner_id == _ME, interactions.c.completed_at.is_(None))
        .returning(interactions.c.id)
    )


def _held() -> Select[Any]:
    return (
        select(interactions.c.id)
        .where(
            interactions.c.owner_id == _ME,
            interactions.c.completed_at.is_(None),
            interactions.c.id > bindparam("after", type_=Key),
        )
        .order_by(interactions.c.id)
        .limit(PAGE)
    )


#: Put off the end of this process's life, and tell the time; gives nothing when it has no row, or has left.
BEAT = Query("beat", _beat())
#: Live again though the row is gone, and tell the time; gives nothing when there is one.
ENTER_AGAIN = Query("enter again", _enter_again())
#: Be dead, and stay it whatever was said before.
LEAVE = Query("leave", _leave())
#: A process besides this one that takes whoever is silent for dead, and lives for longer than ``spare`` microseconds.
JUDGES = Query(
    "a process that judges",
    select(_ONE)
    .where(
        leases.c.kind == _PROCESS,
        leases.c.interaction_id != _ME,
        leases.c.due_at > Clock() + bindparam("spare", type_=BigInteger),
        leases.c.tries > _NONE,
    )
    .limit(1),
)
#: Let no process live longer from now on than it may.
SHORTEN = Query("shorten lives", _shorten())
#: Declare processes dead that had begun before another one found itself alone, also by a clock that was ahead.
EXPIRE_EARLIER = Query("expire earlier processes", _expire())
#: Forget processes that have been silent since before ``now`` and hold nothing.
FORGET_DEAD = Query("forget dead processes", _forget_dead())
#: Take over what processes hold that have been silent since before ``now``, no more than ``most``, and nothing that is
#: not in the remit of this one.
CLAIM = Query("claim", _claim())
#: The same for one interaction.
CLAIM_ONE = Query("claim one", _claim(interactions.c.id == bindparam("id", type_=Key)))
#: Give up everything that is open.
RELEASE = Query("release", _release())
#: What this process holds, a page in the order of keys.
HELD = Query("held", _held())
#: The same, taken anew as it stands: ids that this process has forgotten about are found among them.
CLAIMED_AGAIN = Query(
    "held interactions",
    select(*(interactions.c[name] for name in CLAIMED)).where(
        interactions.c.id == bindparam("id", type_=Key),
        interactions.c.owner_id == _ME,
        interactions.c.completed_at.is_(None),
    ),
)
#: Whether there is anything to claim.
LEFT_BEHIND = Query("anything left behind", _left_behind())
ALIVE = Query(
    "is a process alive",
    select(leases.c.due_at).where(
        leases.c.interaction_id == bindparam("id", type_=Key),
        leases.c.kind == _PROCESS,
        leases.c.due_at > _NOW,
    ),
)
