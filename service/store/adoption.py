"""Interactions that were made elsewhere and are taken in as a whole: row, request and response in one transaction.

The key of such an interaction is derived from what upstream says of it, so whoever takes it in, and how often, there
is one row. The first project has it: an insert does nothing where anybody has an interaction of that upstream id, or
where the parent is not the same project's, so that no chain leads into another project's content. A body is written
only for a row that is there and not deleted, and the row is held meanwhile: a late import brings nothing back.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Executable,
    FromClause,
    SmallInteger,
    Text,
    bindparam,
    exists,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql.dml import Insert

from service.store import aliases
from service.store.records import USAGE_NONE, storable
from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import REQUEST_PAYLOAD, RESPONSE_PAYLOAD, interactions, payloads

#: How a row written here says which schema its request is in: that of steps.
_STEPS_REVISION = 1

_ROW = columns_of(
    interactions,
    "id project_id key_id previous_id root_id depth created_at revision stream background store model_requested agent "
    "request_bytes deployment_id upstream_id upstream_id_hash upstream_stored status model service_tier http_status "
    "error_code error_message response_bytes attempts updated_at completed_at usage_state",
)
_PAYLOAD = columns_of(payloads, "interaction_id codec size body")
#: The other place where the same upstream id may stand.
_BY_TIME = Column("by_time", BigInteger)
_ANY = literal_column("1", SmallInteger)


class Adopted(NamedTuple):
    """An interaction that upstream holds and this store has never seen; its usage is not ours to count."""

    id: bytes
    project_id: bytes
    key_id: bytes | None
    previous_id: bytes | None
    root_id: bytes | None
    depth: int
    created_at: int
    background: bool
    model: str | None
    agent: str | None
    deployment_id: str
    upstream_id: str
    status: str
    service_tier: str | None
    http_status: int
    error_code: str | None
    error_message: str | None
    attempts: str
    updated_at: int
    completed_at: int | None
    request: bytes
    response: bytes

    def row(self) -> tuple[object, ...]:
        """The members in the order of :data:`INSERT_ADOPTED`."""
        return (
            self.id,
            self.project_id,
            self.key_id,
            self.previous_id,
            self.root_id,
            self.depth,
            self.created_at,
            _STEPS_REVISION,
            0,
            +self.background,
            1,
            storable(self.model),
            storable(self.agent),
            len(self.request),
            self.deployment_id,
            self.upstream_id,
            aliases.by_hash(self.upstream_id),
            1,
            storable(self.status),
            storable(self.model or self.agent),
            storable(self.service_tier),
            self.http_status,
            storable(self.error_code),
            storable(self.error_message),
            len(self.response),
            self.attempts,
            self.updated_at,
            self.completed_at,
            USAGE_NONE,
            aliases.by_time(self.upstream_id),
        )


class Holder(NamedTuple):
    """An interaction that some project has under an upstream id, visible to it or not."""

    id: bytes
    project_id: bytes
    root_id: bytes | None
    depth: int
    status: str


def _insert_row(rows: FromClause, database: Particulars) -> Executable:
    parent, holder = interactions.alias("parent"), interactions.alias("holder")
    own_parent = select(_ANY).where(
        parent.c.id == rows.c.previous_id, parent.c.project_id == rows.c.project_id
    )
    held = select(_ANY).where(
        holder.c.upstream_id_hash.in_((rows.c.upstream_id_hash, rows.c.by_time)),
        holder.c.upstream_id == rows.c.upstream_id,
    )
    names = [column.name for column in _ROW]
    chosen = (
        select(*(rows.c[name] for name in names))
        .where(or_(rows.c.previous_id.is_(None), exists(own_parent)), ~exists(held))
        # Two processes that insert the same rows wait for each other; in one order, neither waits for ever.
        .order_by(rows.c.id)
    )
    statement: Insert = database.insert(interactions).from_select(names, chosen).on_conflict_do_nothing()
    return statement


def _insert_body(name: str, kind: int) -> BatchStatement:
    def build(rows: FromClause, database: Particulars) -> Executable:
        kind_column = literal_column(str(kind), SmallInteger)
        chosen = (
            select(rows.c.interaction_id, kind_column, rows.c.codec, rows.c.size, rows.c.body)
            .select_from(rows.join(interactions, interactions.c.id == rows.c.interaction_id))
            .where(interactions.c.deleted_at.is_(None))
            .with_for_update(read=True, of=interactions)
        )
        statement: Insert = (
            database.insert(payloads)
            .from_select(["interaction_id", "kind", "codec", "size", "body"], chosen)
            .on_conflict_do_nothing()
        )
        return statement

    return BatchStatement(name, _PAYLOAD, build, packs=True, looks_again=True)


INSERT_ADOPTED = BatchStatement("insert adopted", (*_ROW, _BY_TIME), _insert_row)
INSERT_ADOPTED_REQUEST = _insert_body("insert adopted request", REQUEST_PAYLOAD)
INSERT_ADOPTED_RESPONSE = _insert_body("insert adopted response", RESPONSE_PAYLOAD)

#: Who has an upstream id, whichever project it is, deleted and unstored interactions included.
HOLDERS = Query(
    "holders of an upstream id",
    select(*(interactions.c[name] for name in Holder._fields)).where(
        interactions.c.upstream_id_hash.in_(aliases.PLACES),
        interactions.c.upstream_id == bindparam("upstream_id", type_=Text),
    ),
)
