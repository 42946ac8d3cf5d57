"""Deletes: a tombstone that hides at once, and the erasing of content as soon as nothing needs it any more.

A follow-up needs the interactions before it, and a request stored without the part that an earlier one has needs that
one (its *base*): what they need of a deleted interaction stays, hidden, until they are erased as well. So does its
event log, which knows what was told before a checkpoint that a follow-up went on from (contract 4.7). What a statement
erases is decided by :data:`ERASABLE` in an earlier transaction, and stays right: nothing can build on an interaction
once its tombstone is committed, so what is needed by nobody is needed by nobody for ever: a create that found its
parent or its base just before looks again after its intent (:data:`STANDS`), and does without. A replay alone builds on
what is kept for its original, and looks again whether that one stands.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    update,
)

from service.store.media import ERASED_WITH_INTERACTION
from service.store.recordings import DELETE_RECORDINGS
from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import Key, events, holds, inputs, interactions, payloads, search_documents

#: Statuses on which nothing can build (contract 5.5) and which are final.
_DEAD_ENDS = ("failed", "cancelled", "budget_exceeded")
#: How many interactions are erased in one transaction, and looked at by one query of a sweep.
ERASED_AT_ONCE = 1_000


def _lock(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(interactions)
        .values(updated_at=interactions.c.updated_at)
        .where(interactions.c.id == rows.c.id, true() if database.locks_rows else false())
    )


def _tombstone(rows: FromClause, database: Particulars) -> Executable:
    count = select(func.count()).select_from(holds).scalar_subquery()
    # Usage is told by labels, and those that nothing was derived from yet are nowhere else.
    labels = case((interactions.c.series_id.is_not(None), null()), else_=interactions.c.labels)
    return (
        update(interactions)
        .values(
            deleted_at=rows.c.deleted_at,
            updated_at=rows.c.deleted_at,
            error_message=null(),
            labels=labels,
            usage_detail=func.coalesce(rows.c.usage_detail, interactions.c.usage_detail),
        )
        .where(interactions.c.id == rows.c.id, interactions.c.deleted_at.is_(None), count == rows.c.holds)
    )


def _erase(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(interactions)
        .values(erased_at=rows.c.erased_at)
        .where(
            interactions.c.id == rows.c.id,
            interactions.c.deleted_at.is_not(None),
            interactions.c.erased_at.is_(None),
        )
    )


def _delete_from(table: Table, name: str) -> BatchStatement:
    def build(rows: FromClause, database: Particulars) -> Executable:
        return delete(table).where(table.c.interaction_id.in_(select(rows.c.interaction_id)))

    return BatchStatement(name, (Column("interaction_id", Key),), build, looks_again=True)


#: Whatever depends on the holds of an interaction is written one after the other, and behind this in its batch.
LOCK_HELD = BatchStatement("lock interaction", columns_of(interactions, "id"), _lock)
#: Does nothing when there are more holds than ``holds``.
TOMBSTONE = BatchStatement(
    "delete interaction",
    (*columns_of(interactions, "id deleted_at usage_detail"), Column("holds", BigInteger)),
    _tombstone,
    looks_again=True,
)
#: Looks again, because the late outcome of an interaction may be in the same batch.
ERASE = BatchStatement(
    "erase interaction", columns_of(interactions, "id erased_at"), _erase, looks_again=True
)
DELETE_PAYLOADS = _delete_from(payloads, "delete payloads")
DELETE_EVENTS = _delete_from(events, "delete events")
#: Right behind the tombstone as well: what is hidden cannot be found.
DELETE_DOCUMENTS = _delete_from(search_documents, "delete documents")
DELETE_INPUTS = _delete_from(inputs, "delete inputs")


def keeps_parent(child: FromClause) -> ColumnElement[bool]:
    """Whether an interaction, unless it is erased, needs the content of the one that it follows."""
    follow_up = interactions.alias("follow_up")
    # What the client did not want stored is never followed, and a failure only by a continuation (contract 4.7).
    goes_on = or_(
        and_(*(child.c.status != status for status in _DEAD_ENDS)),
        exists(
            select(literal(1)).where(follow_up.c.previous_id == child.c.id, follow_up.c.erased_at.is_(None))
        ),
    )
    return and_(child.c.store.is_(True), goes_on)


def needed(key: ColumnElement[Any], besides: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether anything that is not erased, other than ``besides``, needs the content of this interaction.

    Where there is nothing to leave out, ``besides`` is the interaction itself: with it PostgreSQL looks the others up
    by index, and without it may prefer to read the whole table.
    """
    child = interactions.alias("child")
    dependent, owner = inputs.alias("dependent"), interactions.alias("owner")
    children = select(literal(1)).where(
        child.c.previous_id == key, child.c.id != besides, child.c.erased_at.is_(None), keeps_parent(child)
    )
    dependents = (
        select(literal(1))
        .select_from(dependent.join(owner, owner.c.id == dependent.c.interaction_id))
        .where(dependent.c.base_id == key, dependent.c.interaction_id != besides, owner.c.erased_at.is_(None))
    )
    return or_(exists(children), exists(dependents))


def _erasable() -> Executable:
    """From one interaction upwards, by parent and by base, as long as each is needed by none but the one before.

    What is erased already is walked through: its parent may have waited for it alone.
    """
    first, above, base_of = interactions.alias("first"), interactions.alias("above"), inputs.alias("base_of")

    def free(table: FromClause, besides: ColumnElement[Any]) -> ColumnElement[bool]:
        return table.c.deleted_at.is_not(None) & or_(
            table.c.erased_at.is_not(None), ~needed(table.c.id, besides)
        )

    def columns(table: FromClause) -> list[ColumnElement[Any]]:
        waits = case((table.c.erased_at.is_(None), 1), else_=0).label("waits")
        return [table.c.id, table.c.previous_id, base_of.c.base_id, waits]

    def with_base(source: FromClause, table: FromClause) -> FromClause:
        return source.outerjoin(base_of, base_of.c.interaction_id == table.c.id)

    start = select(*columns(first)).select_from(with_base(first, first))
    start = start.where(first.c.id == bindparam("id", type_=Key), free(first, first.c.id))
    walk = start.cte("walk", recursive=True)
    ways = select(literal(0).label("way")).union_all(select(literal(1))).subquery("ways")
    upwards = above.c.id == case((ways.c.way == 0, walk.c.previous_id), else_=walk.c.base_id)
    parents = walk.join(ways, true()).join(above, upwards)
    # Not UNION ALL: a parent that is the base as well is one interaction.
    walk = walk.union(
        select(*columns(above)).select_from(with_base(parents, above)).where(free(above, walk.c.id))
    )
    return select(walk.c.id, walk.c.base_id).where(walk.c.waits == 1).limit(ERASED_AT_ONCE)


def _waiting() -> Executable:
    page = (
        select(interactions.c.id, interactions.c.previous_id)
        .where(
            interactions.c.deleted_at.is_not(None),
            interactions.c.erased_at.is_(None),
            interactions.c.id > bindparam("after", type_=Key),
        )
        .order_by(interactions.c.id)
        .limit(ERASED_AT_ONCE)
        .subquery("page")
    )
    base_of = inputs.alias("base_of")
    waits = case((needed(page.c.id, page.c.id), 1), else_=0)
    return (
        select(page.c.id, waits, page.c.previous_id, base_of.c.base_id)
        .select_from(page.outerjoin(base_of, base_of.c.interaction_id == page.c.id))
        .order_by(page.c.id)
    )


#: Whoever builds on an interaction looks once more when that is committed: without a tombstone, every delete is still
#: to come and will see what builds on it.
STANDS = Query(
    "does an interaction stand",
    select(interactions.c.id).where(
        interactions.c.id == bindparam("id", type_=Key), interactions.c.deleted_at.is_(None)
    ),
)
#: What can be erased now because of one deleted interaction: itself, and what was kept for its sake alone. Each comes
#: with its base, which cannot be found through it any more once it is erased.
ERASABLE = Query("what can be erased", _erasable())
#: What is deleted and not erased, a page in the order of keys, each with whether it is needed, its parent and its base.
WAITING = Query("what waits to be erased", _waiting())

#: What is deleted of an interaction when it is erased.
CONTENT = (
    DELETE_PAYLOADS,
    DELETE_EVENTS,
    DELETE_INPUTS,
    DELETE_DOCUMENTS,
    DELETE_RECORDINGS,
    *ERASED_WITH_INTERACTION,
)
