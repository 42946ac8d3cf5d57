"""The statements of requests that are stored without the part that an earlier request, their base, already has.

``inputs`` has one row for each request whose list of inputs is long enough (:mod:`service.store.regions`). Which base
a new request gets is one look for the digests of its own prefixes; how many bases a request goes back to does not
matter to how it is read: one query walks them all.

A base may be deleted while a request is being stored without it. A delete commits its tombstone first, and in a later
transaction erases the content unless something needs it. So once the intent is committed, one look at the base
(:data:`service.store.deletion.STANDS`) decides: without a tombstone, every delete of it is still to come and will see
the intent, so the content stays; with one, the erasing may have looked before the intent was there, and the request is
stored in full before it goes upstream. A process that dies in between leaves an intent that was never sent and cannot
be read. It must not be another's base either, so a request that has a base becomes one only when upstream has answered
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Executable,
    FromClause,
    LargeBinary,
    Select,
    SmallInteger,
    and_,
    bindparam,
    literal_column,
    null,
    or_,
    select,
    update,
)

from service.store.codec import Codec
from service.store.regions import PREFIXES, Region, Stored
from service.store.statement import BatchStatement, Particulars, Query, columns_of, insert_rows
from service.store.tables import REQUEST_PAYLOAD, Key, inputs, interactions, payloads

_REQUEST: Final = literal_column(str(REQUEST_PAYLOAD), SmallInteger)
_ID: Final = bindparam("id", type_=Key)
_PROJECT: Final = bindparam("project_id", type_=Key)
_INPUT = columns_of(inputs, "interaction_id digest start size base_id")


def _insert_input(rows: FromClause, database: Particulars) -> Executable:
    return insert_rows(inputs, _INPUT, rows, database)


def _replace_request(rows: FromClause, database: Particulars) -> Executable:
    # An update, because what was erased meanwhile must not come back.
    return (
        update(payloads)
        .values(codec=rows.c.codec, size=rows.c.size, body=rows.c.body)
        .where(payloads.c.interaction_id == rows.c.interaction_id, payloads.c.kind == _REQUEST)
    )


def _forget_base(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(inputs)
        .values(digest=rows.c.digest, base_id=null())
        .where(inputs.c.interaction_id == rows.c.interaction_id)
    )


INSERT_INPUT = BatchStatement("insert input", _INPUT, _insert_input)
#: These two are written together.
REPLACE_REQUEST = BatchStatement(
    "replace request", columns_of(payloads, "interaction_id codec size body"), _replace_request, packs=True
)
FORGET_BASE = BatchStatement("forget base", columns_of(inputs, "interaction_id digest"), _forget_base)


def _find_base() -> Executable:
    digests = [bindparam(f"digest_{number}", type_=LargeBinary) for number in range(PREFIXES)]
    usable = and_(
        interactions.c.project_id == _PROJECT,
        interactions.c.deleted_at.is_(None),
        or_(inputs.c.base_id.is_(None), interactions.c.first_byte_at.is_not(None)),
    )
    # No join: PostgreSQL might begin it with the interactions of the project.
    of_input = select(usable).where(interactions.c.id == inputs.c.interaction_id).scalar_subquery()
    return (
        select(inputs.c.interaction_id, inputs.c.digest, inputs.c.size)
        .where(inputs.c.digest.in_(digests), of_input)
        .order_by(inputs.c.size.desc())
        .limit(1)
    )


def prefixes_of(region: Region) -> dict[str, bytes]:
    """The parameters of :data:`FIND_BASE` that name a region's prefixes."""
    digests = list(region.prefixes)
    return {f"digest_{number}": digests[min(number, len(digests) - 1)] for number in range(PREFIXES)}


def _requests(wanted: Select[Any]) -> Executable:
    walk = wanted.cte("needed", recursive=True)
    # Not UNION ALL: what many build on comes once, and a walk through damaged rows ends.
    walk = walk.union(
        select(inputs.c.base_id).where(inputs.c.interaction_id == walk.c.id, inputs.c.base_id.is_not(None))
    )
    request = (payloads.c.interaction_id == walk.c.id) & (payloads.c.kind == _REQUEST)
    return select(
        walk.c.id,
        interactions.c.project_id,
        inputs.c.digest,
        inputs.c.start,
        inputs.c.size,
        inputs.c.base_id,
        payloads.c.codec,
        payloads.c.size,
        payloads.c.body,
    ).select_from(
        walk.join(interactions, interactions.c.id == walk.c.id)
        .join(payloads, request)
        .outerjoin(inputs, inputs.c.interaction_id == walk.c.id)
    )


def stored_requests(rows: Sequence[Sequence[Any]], packing: Codec) -> dict[bytes, Stored]:
    """The rows of :data:`REQUEST` by their keys; raises :class:`~service.errors.StoreError` for damaged ones."""
    return {
        key: Stored(project_id, digest, start, size, base_id, packing.unpack(codec, packed, body))
        for key, project_id, digest, start, size, base_id, codec, packed, body in rows
    }


#: The request that shares most with a new one, and how much; one that is deleted, or may not stand itself, is no base.
FIND_BASE = Query("find the base of a request", _find_base())
#: Requests as they are stored, with everything that they were stored without: all rows are one moment's.
REQUEST = Query("a request and its bases", _requests(select(_ID.label("id"))))
