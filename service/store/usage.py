"""Usage that upstream tells after the end: an interaction has one set of figures, written once (promise P5).

An outcome without the usage that upstream owes leaves ``usage_state`` at ``USAGE_MISSING`` and a note of the kind
``usage`` in ``leases``. Whoever takes a due note asks upstream, and what it says becomes final by :data:`SETTLE_USAGE`,
which changes nothing that is final already. The note falls due again by itself, later each time.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    SmallInteger,
    Text,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import Insert

from service.store.records import USAGE_MISSING
from service.store.remit import may_be_ended
from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import RESPONSE_PAYLOAD, Key, interactions, leases, payloads

# Constants of the text, so that a batch statement's only parameters are its rows.
_WANTED = literal_column("'usage'", Text)
_NONE = literal_column("0", BigInteger)
_MISSING = literal_column(str(USAGE_MISSING), SmallInteger)
_USAGE_CAME = literal_column("3", SmallInteger)
_RESPONSE = literal_column(str(RESPONSE_PAYLOAD), SmallInteger)

_FIGURES = (
    "input_tokens",
    "output_tokens",
    "thought_tokens",
    "cached_tokens",
    "tool_use_tokens",
    "total_tokens",
)


def _owed(key: ColumnElement[bytes], *more: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether an interaction has ended without the usage that upstream owes."""
    return exists(
        select(literal_column("1")).where(
            interactions.c.id == key,
            interactions.c.usage_state == _MISSING,
            interactions.c.completed_at.is_not(None),
            *more,
        )
    )


def _want(rows: FromClause, database: Particulars) -> Executable:
    names = ["interaction_id", "kind", "due_at", "tries"]
    chosen = select(rows.c.interaction_id, _WANTED, rows.c.due_at, _NONE).where(_owed(rows.c.interaction_id))
    statement: Insert = database.insert(leases).from_select(names, chosen).on_conflict_do_nothing()
    return statement


def _settle(rows: FromClause, database: Particulars) -> Executable:
    values: dict[str, Any] = {name: rows.c[name] for name in ("usage_state", *_FIGURES, "updated_at")}
    values["response_bytes"] = func.coalesce(rows.c.response_bytes, interactions.c.response_bytes)
    # Whatever was derived before, this was not (service/audit/derivation.py).
    values["derived_state"] = _USAGE_CAME
    return (
        update(interactions)
        .values(values)
        .where(
            interactions.c.id == rows.c.id,
            interactions.c.usage_state == _MISSING,
            interactions.c.completed_at.is_not(None),
        )
    )


def _settle_response(rows: FromClause, database: Particulars) -> Executable:
    owed = _owed(rows.c.interaction_id, interactions.c.deleted_at.is_(None))
    return (
        update(payloads)
        .values(codec=rows.c.codec, size=rows.c.size, body=rows.c.body)
        .where(payloads.c.interaction_id == rows.c.interaction_id, payloads.c.kind == _RESPONSE, owed)
    )


def _forget(rows: FromClause, database: Particulars) -> Executable:
    chosen = select(rows.c.interaction_id)
    return delete(leases).where(leases.c.kind == _WANTED, leases.c.interaction_id.in_(chosen))


#: Note that upstream owes the usage of an interaction, to be asked for after ``due_at``. Written after the outcome, and
#: only where that is so: who was to end it may have lost it.
WANT_USAGE = BatchStatement(
    "want usage", columns_of(leases, "interaction_id due_at"), _want, looks_again=True
)
#: The one write by which usage becomes final after the outcome; does nothing where it is not missing.
SETTLE_USAGE = BatchStatement(
    "settle usage",
    columns_of(interactions, f"id updated_at response_bytes usage_state {' '.join(_FIGURES)}"),
    _settle,
)
#: The response with that usage in it. Written only together with :data:`SETTLE_USAGE` of the same interaction.
SETTLE_RESPONSE = BatchStatement(
    "settle response",
    columns_of(payloads, "interaction_id codec size body"),
    _settle_response,
    packs=True,
)
FORGET_USAGE = BatchStatement("forget usage", (Column("interaction_id", Key),), _forget)


def _take() -> Executable:
    """Take notes in the remit that are due; each is due again after a pause that grows with the square of its tries."""
    due = (
        select(leases.c.interaction_id)
        .select_from(leases.outerjoin(interactions, interactions.c.id == leases.c.interaction_id))
        .where(
            leases.c.kind == _WANTED,
            leases.c.due_at <= bindparam("now", type_=BigInteger),
            or_(interactions.c.id.is_(None), may_be_ended()),
        )
        .order_by(leases.c.due_at)
        .limit(bindparam("most", type_=BigInteger))
        .with_for_update(of=leases, skip_locked=True)
        .cte("due")
    )
    tries = leases.c.tries + literal_column("1", BigInteger)
    pause = bindparam("pause", type_=BigInteger)
    return (
        update(leases)
        .values(due_at=bindparam("now", type_=BigInteger) + pause * tries * tries, tries=tries)
        .where(leases.c.kind == _WANTED, leases.c.interaction_id.in_(select(due.c.interaction_id)))
        .returning(leases.c.interaction_id, leases.c.tries)
    )


TAKE_USAGE: Final = Query("take usage notes", _take())
