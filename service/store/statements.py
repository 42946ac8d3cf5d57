"""Every statement of the hot path, written once as SQLAlchemy Core and compiled once for each database.

A :class:`BatchStatement` writes any number of rows in one execution: the database hands them in as a table named
``rows`` (a ``VALUES`` list on SQLite, unnested arrays on PostgreSQL), and the statement is an ``INSERT ... SELECT`` or
``UPDATE ... FROM`` over it. One execution per batch and kind is what makes a group commit cheap. Every one of them may
be repeated without harm, so that a batch whose commit was not confirmed can be sent again, and the
outcomes and the delete of one interaction may come in any order.

:data:`BATCH_ORDER` is the order of kinds inside one batch. Where the databases must differ, a statement is built from
the :class:`Particulars` of its database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    Boolean,
    Executable,
    FromClause,
    SmallInteger,
    Text,
    bindparam,
    case,
    literal,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import Insert

from service.store import aliases
from service.store.adoption import (
    INSERT_ADOPTED,
    INSERT_ADOPTED_REQUEST,
    INSERT_ADOPTED_RESPONSE,
)
from service.store.bringing_in import BRINGING
from service.store.deletion import (
    CONTENT,
    ERASE,
    LOCK_HELD,
    TOMBSTONE,
    keeps_parent,
)
from service.store.deployment_states import FORGET_STATES, SHARE_STATE
from service.store.event_log import FORGET_WISHES, LOGGING
from service.store.holding import ENTER, HAND_BACK
from service.store.holds import PLACING
from service.store.idempotency import CLAIM_KEY, RELEASE_KEY, claimed
from service.store.inputs import (
    FORGET_BASE,
    INSERT_INPUT,
    REPLACE_REQUEST,
)
from service.store.media import KEEPING
from service.store.recordings import RECORDING
from service.store.records import Record
from service.store.retention import EXPIRE
from service.store.signing_secrets import SIGNING
from service.store.statement import BatchStatement, Particulars, Query, columns_of, insert_rows
from service.store.tables import (
    REQUEST_PAYLOAD,
    RESPONSE_PAYLOAD,
    Key,
    interactions,
    payloads,
    projects,
)
from service.store.usage import FORGET_USAGE, SETTLE_RESPONSE, SETTLE_USAGE, WANT_USAGE
from service.store.webhooks import (
    ANNOUNCE,
    FORGET_WEBHOOKS,
    REFUSE,
    REGISTER,
    REPORT,
)

_INTENT = columns_of(
    interactions,
    "id project_id key_id previous_id root_id depth created_at revision stream background store model_requested agent "
    "labels request_bytes deployment_id upstream_stored owner_id status updated_at usage_state replay_of",
)
_OUTCOME = columns_of(
    interactions,
    "id deployment_id upstream_id upstream_id_hash upstream_stored status model service_tier http_status error_code "
    "error_message response_bytes attempts updated_at first_byte_at completed_at usage_state input_tokens "
    "output_tokens thought_tokens cached_tokens tool_use_tokens total_tokens owner_id",
)
# Constants stand in the text, so that a batch statement's only parameters are its rows.
_REQUEST = literal_column(str(REQUEST_PAYLOAD), SmallInteger)
_RESPONSE = literal_column(str(RESPONSE_PAYLOAD), SmallInteger)
_PAYLOAD = columns_of(payloads, "interaction_id codec size body")
_OWNER = columns_of(interactions, "owner_id")
_RESPONSE_PAYLOAD = (*_PAYLOAD, *_OWNER)


def _insert_intent(rows: FromClause, database: Particulars) -> Executable:
    return insert_rows(interactions, _INTENT, rows, database)


def _insert_request(rows: FromClause, database: Particulars) -> Executable:
    chosen = select(rows.c.interaction_id, _REQUEST, rows.c.codec, rows.c.size, rows.c.body)
    statement: Insert = (
        database.insert(payloads)
        .from_select(["interaction_id", "kind", "codec", "size", "body"], chosen.where(true()))
        .on_conflict_do_nothing()
    )
    return statement


def _upsert_response(rows: FromClause, database: Particulars) -> Executable:
    takes = database.takes_outcome(rows).exists()
    chosen = select(rows.c.interaction_id, _RESPONSE, rows.c.codec, rows.c.size, rows.c.body).where(takes)
    statement = database.insert(payloads).from_select(
        ["interaction_id", "kind", "codec", "size", "body"], chosen
    )
    excluded = statement.excluded
    result: Insert = statement.on_conflict_do_update(
        index_elements=[payloads.c.interaction_id, payloads.c.kind],
        set_={"codec": excluded.codec, "size": excluded.size, "body": excluded.body},
    )
    return result


def _finish(rows: FromClause, database: Particulars) -> Executable:
    names = [column.name for column in _OUTCOME if column.name not in ("id", "owner_id")]
    values: dict[str, Any] = {name: rows.c[name] for name in names}
    # A message may quote the content, and what was deleted must not come back with a late outcome.
    values["error_message"] = case((interactions.c.deleted_at.is_(None), rows.c.error_message))
    return (
        update(interactions)
        .values(values)
        .where(
            interactions.c.id == rows.c.id,
            interactions.c.owner_id == rows.c.owner_id,
            interactions.c.completed_at.is_(None),
        )
    )


def _unwritten(rows: FromClause, database: Particulars) -> Executable:
    gone, there = (literal_column(text, SmallInteger) for text in ("0", "1"))
    return (
        select(rows.c.id, case((interactions.c.id.is_(None), gone), else_=there))
        .select_from(rows.outerjoin(interactions, interactions.c.id == rows.c.id))
        .where(or_(interactions.c.id.is_(None), interactions.c.owner_id != rows.c.owner_id))
    )


def _note_status(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(interactions)
        .values(status=rows.c.status, updated_at=rows.c.updated_at)
        .where(
            interactions.c.id == rows.c.id,
            interactions.c.owner_id == rows.c.owner_id,
            interactions.c.completed_at.is_(None),
        )
    )


def _reroute(rows: FromClause, database: Particulars) -> Executable:
    names = ("deployment_id", "attempts", "updated_at")
    return (
        update(interactions)
        .values({name: rows.c[name] for name in names})
        .where(
            interactions.c.id == rows.c.id,
            interactions.c.owner_id == rows.c.owner_id,
            interactions.c.completed_at.is_(None),
        )
    )


def _mark_upstream_gone(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(interactions)
        .values(upstream_gone_at=rows.c.upstream_gone_at)
        .where(interactions.c.id == rows.c.id, interactions.c.upstream_gone_at.is_(None))
    )


INSERT_INTENT = BatchStatement("insert intent", _INTENT, _insert_intent)
INSERT_REQUEST = BatchStatement("insert request", _PAYLOAD, _insert_request, packs=True)
#: The same for an interaction that brings an idempotency key: written only if it gets it.
INSERT_CLAIMED_INTENT = claimed(INSERT_INTENT)
INSERT_CLAIMED_REQUEST = claimed(INSERT_REQUEST)
INSERT_CLAIMED_INPUT = claimed(INSERT_INPUT)
REGISTER_CLAIMED = claimed(REGISTER)
#: Written only together with the :data:`FINISH` of the same interaction, which decides whether it is.
UPSERT_RESPONSE = BatchStatement("upsert response", _RESPONSE_PAYLOAD, _upsert_response, packs=True)
#: Changes nothing that has ended or that another process holds.
FINISH = BatchStatement("finish interaction", _OUTCOME, _finish)
#: A run goes on: how it stands now, and nothing else of it.
NOTE_STATUS = BatchStatement(
    "note status", columns_of(interactions, "id status updated_at owner_id"), _note_status
)
MARK_UPSTREAM_GONE = BatchStatement(
    "mark upstream gone", columns_of(interactions, "id upstream_gone_at"), _mark_upstream_gone
)
#: Where the request goes next, with the attempts so far: committed before it is sent there (promise P2).
REROUTE = BatchStatement(
    "reroute interaction", columns_of(interactions, "id owner_id deployment_id attempts updated_at"), _reroute
)
#: Which of these outcomes were not their owner's to write: id, and whether there is such an interaction at all. A read,
#: asked only when :data:`FINISH` changed fewer rows than it was given. What its owner had ended before is none of them.
UNWRITTEN = BatchStatement("unwritten outcomes", (*columns_of(interactions, "id"), *_OWNER), _unwritten)

BATCH_ORDER: Sequence[BatchStatement] = (
    CLAIM_KEY,
    INSERT_INTENT,
    INSERT_REQUEST,
    REGISTER,
    INSERT_INPUT,
    INSERT_CLAIMED_INTENT,
    INSERT_CLAIMED_REQUEST,
    INSERT_CLAIMED_INPUT,
    REGISTER_CLAIMED,
    REPLACE_REQUEST,
    FORGET_BASE,
    INSERT_ADOPTED,
    INSERT_ADOPTED_REQUEST,
    INSERT_ADOPTED_RESPONSE,
    REROUTE,
    *LOGGING,
    NOTE_STATUS,
    UPSERT_RESPONSE,
    FORGET_WISHES,
    ANNOUNCE,
    REFUSE,
    FINISH,
    REPORT,
    *SIGNING,
    SETTLE_RESPONSE,
    SETTLE_USAGE,
    MARK_UPSTREAM_GONE,
    RELEASE_KEY,
    LOCK_HELD,
    TOMBSTONE,
    EXPIRE,
    *KEEPING,
    FORGET_WEBHOOKS,
    WANT_USAGE,
    FORGET_USAGE,
    ENTER,
    HAND_BACK,
    ERASE,
    *CONTENT,
    SHARE_STATE,
    FORGET_STATES,
    *RECORDING,
    *PLACING,
    *BRINGING,
)

#: The columns of a :class:`Record`, which every record query returns first and in order.
_RECORD = [interactions.c[member.name] for member in fields(Record)[:-1]]
RECORD_WIDTH = len(_RECORD)
#: Those of them that are true or false, for which SQLite has numbers.
RECORD_FLAGS = tuple(place for place, column in enumerate(_RECORD) if isinstance(column.type, Boolean))

_visible = (
    interactions.c.project_id == bindparam("project_id", type_=Key),
    interactions.c.store.is_(True),
    interactions.c.deleted_at.is_(None),
)
_with_body = [payloads.c.codec, payloads.c.size, payloads.c.body]
_response_of = (payloads.c.interaction_id == interactions.c.id) & (
    payloads.c.kind == bindparam("kind", type_=SmallInteger)
)

FIND = Query(
    "find by id",
    select(*_RECORD, *_with_body)
    .select_from(interactions.outerjoin(payloads, _response_of))
    .where(interactions.c.id == bindparam("id", type_=Key), *_visible),
)
#: For who has found it before, or made it: also what the client did not want stored.
RECALL = Query(
    "recall by id",
    select(*_RECORD, *_with_body)
    .select_from(interactions.outerjoin(payloads, _response_of))
    .where(
        interactions.c.id == bindparam("id", type_=Key),
        interactions.c.project_id == bindparam("project_id", type_=Key),
        interactions.c.deleted_at.is_(None),
    ),
)
_child = interactions.alias("child")
#: For who sends the request of one that follows it again: what is deleted is kept for that one.
FIND_KEPT = Query(
    "find what is kept for an interaction",
    select(*_RECORD, *_with_body)
    .select_from(
        interactions.join(_child, _child.c.previous_id == interactions.c.id).outerjoin(payloads, _response_of)
    )
    .where(
        _child.c.id == bindparam("child", type_=Key),
        _child.c.deleted_at.is_(None),
        keeps_parent(_child),
        interactions.c.project_id == bindparam("project_id", type_=Key),
        interactions.c.erased_at.is_(None),
    ),
)
FIND_BY_UPSTREAM_ID = Query(
    "find by upstream id",
    select(*_RECORD, *_with_body)
    .select_from(interactions.outerjoin(payloads, _response_of))
    .where(
        interactions.c.upstream_id_hash.in_(aliases.PLACES),
        interactions.c.upstream_id == bindparam("upstream_id", type_=Text),
        *_visible,
    )
    # By time first, which has no index: by id alone, PostgreSQL may look through every key for the one.
    .order_by(interactions.c.created_at.desc(), interactions.c.id.desc())
    .limit(1),
)
#: The one read of a record by its id alone, for the process that holds it and never to be told: what is deleted, or was
#: not wanted to be stored, is finished as well.
FIND_HELD = Query(
    "find what is held",
    select(*_RECORD, *_with_body, interactions.c.deleted_at)
    .select_from(interactions.outerjoin(payloads, _response_of))
    .where(interactions.c.id == bindparam("id", type_=Key)),
)

PROJECT_NAME = Query(
    "name of a project", select(projects.c.name).where(projects.c.id == bindparam("id", type_=Key))
)
PROBE = Query("is the store there", select(literal(1)))
