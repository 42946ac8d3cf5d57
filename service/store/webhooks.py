"""Webhooks in the tables: whom to tell of an outcome, and how the telling stands.

Who is to be told is written with the intent. The transaction that commits an outcome makes the telling due
(:data:`ANNOUNCE`), so whichever process commits it, and whichever dies right after, nothing is forgotten. Who delivers
claims rows for a time under a token of its own, and what it says afterwards counts only while that token is there.
A delete takes the rows away, whatever they wait for.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Executable,
    FromClause,
    bindparam,
    delete,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import Insert

from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import Key, interactions, webhooks

_ONE_KEY = (Column("interaction_id", Key),)
_OWNED = (*_ONE_KEY, *columns_of(interactions, "owner_id"))
_REGISTERED = columns_of(webhooks, "interaction_id place uri user_metadata")
_RESULT = columns_of(webhooks, "interaction_id place lease_token due_at tries settled_at http_status error")
_NONE = literal_column("0", BigInteger)


def _register(rows: FromClause, database: Particulars) -> Executable:
    names = [column.name for column in _REGISTERED]
    chosen = select(*(rows.c[name] for name in names), _NONE).where(true())
    statement: Insert = (
        database.insert(webhooks).from_select([*names, "tries"], chosen).on_conflict_do_nothing()
    )
    return statement


def _announce(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(webhooks)
        .values(due_at=rows.c.due_at)
        .where(webhooks.c.interaction_id == rows.c.interaction_id, database.takes_outcome(rows).exists())
    )


def _refuse(rows: FromClause, database: Particulars) -> Executable:
    refused = select(rows.c.interaction_id).where(database.takes_outcome(rows).exists())
    return delete(webhooks).where(webhooks.c.interaction_id.in_(refused))


def _forget(rows: FromClause, database: Particulars) -> Executable:
    return delete(webhooks).where(webhooks.c.interaction_id.in_(select(rows.c.interaction_id)))


def _report(rows: FromClause, database: Particulars) -> Executable:
    told = ("due_at", "tries", "settled_at", "http_status", "error")
    return (
        update(webhooks)
        .values({**{name: rows.c[name] for name in told}, "lease_token": null()})
        .where(
            webhooks.c.interaction_id == rows.c.interaction_id,
            webhooks.c.place == rows.c.place,
            webhooks.c.lease_token == rows.c.lease_token,
        )
    )


REGISTER = BatchStatement("register webhook", _REGISTERED, _register)
#: Written only together with the outcome of the same interaction, which decides whether they are.
ANNOUNCE = BatchStatement("announce outcome", (*_OWNED, *columns_of(webhooks, "due_at")), _announce)
REFUSE = BatchStatement("tell nobody of outcome", _OWNED, _refuse)
#: Looks again, because the outcome that is committed at the same time must not make due what is deleted.
FORGET_WEBHOOKS = BatchStatement("forget webhooks", _ONE_KEY, _forget, looks_again=True)
REPORT = BatchStatement("report delivery", _RESULT, _report)


def _claim() -> Executable:
    due = (
        select(webhooks.c.interaction_id, webhooks.c.place)
        .where(webhooks.c.due_at <= bindparam("now", type_=BigInteger))
        .order_by(webhooks.c.due_at)
        .limit(bindparam("most", type_=BigInteger))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        update(webhooks)
        .values(due_at=bindparam("until", type_=BigInteger), lease_token=bindparam("token", type_=Key))
        .where(webhooks.c.interaction_id == due.c.interaction_id, webhooks.c.place == due.c.place)
        .returning(
            webhooks.c.interaction_id,
            webhooks.c.place,
            webhooks.c.uri,
            webhooks.c.user_metadata,
            webhooks.c.tries,
        )
    )


#: Takes what is due, for as long as nobody else holds it; a write that gives rows.
CLAIM = Query("claim due webhooks", _claim())
NEXT_DUE = Query(
    "next due webhook",
    select(webhooks.c.due_at).where(webhooks.c.due_at.is_not(None)).order_by(webhooks.c.due_at).limit(1),
)
WEBHOOKS_OF = Query(
    "webhooks of an interaction",
    select(webhooks.c.uri, webhooks.c.user_metadata)
    .where(webhooks.c.interaction_id == bindparam("id", type_=Key))
    .order_by(webhooks.c.place),
)
#: What a receiver is told about; nothing of what is deleted.
ENDED = Query(
    "how an interaction ended",
    select(interactions.c.project_id, interactions.c.status, interactions.c.completed_at).where(
        interactions.c.id == bindparam("id", type_=Key),
        interactions.c.completed_at.is_not(None),
        interactions.c.deleted_at.is_(None),
    ),
)
