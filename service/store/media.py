"""Kept media: bytes that content names by a URI of upstream, each once for a project however often it is named.

``media`` says which interaction names which URI, ``media_contents`` holds the bytes. A URI and the bytes are known by
digests in which the project has a part, so nothing is ever shared between projects (promise P6), nor looked up across.
Media to be fetched are noted in ``leases`` under the kind ``media``: what a process had no time for is found there.

No reference may ever point at bytes that are being deleted. Whoever adds one, and whoever deletes, first writes the
row of the bytes in an earlier statement of the same transaction, and decides in one that looks again: where several
processes write, the row's lock puts one after the other. (SQLite has one writer, and would write the bytes anew.)

Erasing an interaction includes :data:`ERASED_WITH_INTERACTION`, in this order, each with rows of ``(interaction_id,)``,
in the transaction that sets ``erased_at`` or in a later one: :data:`LOCK_MEDIA`, :data:`DELETE_UNREFERENCED_MEDIA`,
:data:`DELETE_MEDIA`. What a fetch adds at that very moment is found by :data:`LEFT_BEHIND` and :data:`ORPHANS`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    Text,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import Insert

from service.store.remit import in_remit
from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import Key, interactions, leases, media, media_contents

_URI_DIGEST: Final = 16
_CONTENT_DIGEST: Final = 32
_AT_ONCE: Final = 500
#: A constant of the text, so that a batch statement's only parameters are its rows.
_WANTED = literal_column("'media'", Text)


def uri_digest(project_id: bytes, uri: str) -> bytes:
    """How a URI of a project is known."""
    return blake2b(uri.encode(), digest_size=_URI_DIGEST, key=project_id).digest()


def content_digest(project_id: bytes, body: bytes) -> bytes:
    """How the bytes of a project are known."""
    return blake2b(body, digest_size=_CONTENT_DIGEST, key=project_id).digest()


def _where_rows_lock(database: Particulars) -> ColumnElement[bool]:
    return literal_column("1 = 1" if database.locks_rows else "1 = 0", Boolean)


def _keep_content(rows: FromClause, database: Particulars) -> Executable:
    names = ["id", "size", "body", "touched_at"]
    chosen = select(*(rows.c[name] for name in names)).where(true())
    statement: Insert = database.insert(media_contents).from_select(names, chosen).on_conflict_do_nothing()
    return statement


def _touch_content(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(media_contents)
        .values(touched_at=rows.c.touched_at)
        .where(media_contents.c.id == rows.c.id, _where_rows_lock(database))
    )


def _keep_reference(rows: FromClause, database: Particulars) -> Executable:
    names = ["interaction_id", "uri_digest", "content_id", "mime_type", "kept_at"]
    there = rows.join(media_contents, media_contents.c.id == rows.c.content_id).join(
        interactions, interactions.c.id == rows.c.interaction_id
    )
    chosen = select(*(rows.c[name] for name in names)).select_from(there)
    statement: Insert = (
        database.insert(media)
        .from_select(names, chosen.where(interactions.c.erased_at.is_(None)))
        .on_conflict_do_nothing()
    )
    return statement


def _named_by(rows: FromClause) -> ColumnElement[bool]:
    named = select(media.c.content_id).where(media.c.interaction_id.in_(select(rows.c.interaction_id)))
    return media_contents.c.id.in_(named)


def _lock_media(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(media_contents)
        .values(touched_at=media_contents.c.touched_at)
        .where(_named_by(rows), _where_rows_lock(database))
    )


def _delete_unreferenced(rows: FromClause, database: Particulars) -> Executable:
    """Bytes that are named by these interactions and by none that is not erased."""
    other, owner = media.alias("other"), interactions.alias("owner")
    needed: Select[Any] = (
        select(literal_column("1"))
        .select_from(other.join(owner, owner.c.id == other.c.interaction_id))
        .where(
            other.c.content_id == media_contents.c.id,
            other.c.interaction_id.not_in(select(rows.c.interaction_id)),
            owner.c.erased_at.is_(None),
        )
        .correlate(media_contents)
    )
    return delete(media_contents).where(_named_by(rows), ~exists(needed))


def _delete_media(rows: FromClause, database: Particulars) -> Executable:
    return delete(media).where(media.c.interaction_id.in_(select(rows.c.interaction_id)))


def _unnamed() -> ColumnElement[bool]:
    naming: Select[Any] = select(literal_column("1")).where(media.c.content_id == media_contents.c.id)
    return ~exists(naming.correlate(media_contents))


def _delete_orphans(rows: FromClause, database: Particulars) -> Executable:
    return delete(media_contents).where(media_contents.c.id.in_(select(rows.c.id)), _unnamed())


def _want(rows: FromClause, database: Particulars) -> Executable:
    chosen = select(rows.c.interaction_id, _WANTED, rows.c.due_at, literal_column("0", BigInteger))
    statement = database.insert(leases).from_select(
        ["interaction_id", "kind", "due_at", "tries"], chosen.where(true())
    )
    result: Insert = statement.on_conflict_do_update(
        index_elements=[leases.c.interaction_id, leases.c.kind],
        set_={"due_at": statement.excluded.due_at, "tries": leases.c.tries + literal_column("1", BigInteger)},
    )
    return result


def _settle(rows: FromClause, database: Particulars) -> Executable:
    return delete(leases).where(
        leases.c.kind == _WANTED, leases.c.interaction_id.in_(select(rows.c.interaction_id))
    )


_ONE_KEY = (Column("interaction_id", Key),)

KEEP_CONTENT = BatchStatement(
    "keep media content", columns_of(media_contents, "id size body touched_at"), _keep_content
)
TOUCH_CONTENT = BatchStatement(
    "touch media content", columns_of(media_contents, "id touched_at"), _touch_content
)
#: Does nothing where the bytes are gone, or the interaction is erased.
KEEP_REFERENCE = BatchStatement(
    "keep media reference",
    columns_of(media, "interaction_id uri_digest content_id mime_type kept_at"),
    _keep_reference,
    looks_again=True,
)
LOCK_MEDIA = BatchStatement("lock media of interaction", _ONE_KEY, _lock_media)
DELETE_UNREFERENCED_MEDIA = BatchStatement(
    "delete unreferenced media", _ONE_KEY, _delete_unreferenced, looks_again=True
)
DELETE_MEDIA = BatchStatement("delete media of interaction", _ONE_KEY, _delete_media, looks_again=True)
ERASED_WITH_INTERACTION: Final = (LOCK_MEDIA, DELETE_UNREFERENCED_MEDIA, DELETE_MEDIA)
DELETE_ORPHANS = BatchStatement(
    "delete orphaned media", columns_of(media_contents, "id"), _delete_orphans, looks_again=True
)
#: Note that an interaction's media are to be fetched, or once more if it is noted already.
WANT_MEDIA = BatchStatement("want media", columns_of(leases, "interaction_id due_at"), _want)
SETTLE_MEDIA = BatchStatement("settle media", _ONE_KEY, _settle)

#: The writes of this module, to stand in a batch before the erasing of interactions.
KEEPING: Final = (KEEP_CONTENT, TOUCH_CONTENT, KEEP_REFERENCE, WANT_MEDIA, SETTLE_MEDIA, DELETE_ORPHANS)

FIND_MEDIA = Query(
    "find media by URI",
    select(media.c.content_id, media.c.mime_type)
    .select_from(media.join(media_contents, media_contents.c.id == media.c.content_id))
    .where(media.c.uri_digest == bindparam("uri_digest", type_=LargeBinary))
    .limit(1),
)
MEDIA_OF = Query(
    "media of an interaction",
    select(media.c.uri_digest).where(media.c.interaction_id == bindparam("id", type_=Key)),
)


def _load() -> Select[Any]:
    """The bytes behind any number of URIs, whose digests come as one string of bytes; no bytes if they are too many."""
    digests = bindparam("digests", type_=LargeBinary)
    size = literal_column(str(_URI_DIGEST), Integer)

    def digest_at(place: ColumnElement[int]) -> ColumnElement[bytes]:
        return func.substr(digests, place, size, type_=LargeBinary)

    first = literal_column("1", Integer)
    wanted = select(first.label("place"), digest_at(first).label("digest")).cte("wanted", recursive=True)
    following = wanted.c.place + size
    wanted = wanted.union_all(select(following, digest_at(following)).where(following < func.length(digests)))
    found = (
        select(media.c.uri_digest, media.c.content_id, media.c.mime_type)
        .select_from(wanted.join(media, media.c.uri_digest == wanted.c.digest))
        .distinct()
        .cte("found")
    )
    counted = media_contents.alias("counted")
    total = select(func.sum(counted.c.size)).where(counted.c.id.in_(select(found.c.content_id)))
    fits = total.scalar_subquery() <= bindparam("most", type_=BigInteger)
    return select(
        found.c.uri_digest, found.c.mime_type, media_contents.c.size, case((fits, media_contents.c.body))
    ).select_from(found.join(media_contents, media_contents.c.id == found.c.content_id))


LOAD_MEDIA = Query("media by their URIs", _load())
DUE_MEDIA = Query(
    "media to be fetched",
    select(leases.c.interaction_id, interactions.c.project_id, leases.c.tries)
    .select_from(leases.join(interactions, interactions.c.id == leases.c.interaction_id))
    .where(leases.c.kind == _WANTED, leases.c.due_at <= bindparam("now", type_=BigInteger), in_remit())
    .order_by(leases.c.due_at)
    .limit(_AT_ONCE),
)


def _left_behind() -> Executable:
    page = (
        select(media.c.interaction_id)
        .where(media.c.interaction_id > bindparam("after", type_=Key))
        .group_by(media.c.interaction_id)
        .order_by(media.c.interaction_id)
        .limit(_AT_ONCE)
        .subquery("page")
    )
    kept = exists(
        select(literal_column("1")).where(
            interactions.c.id == page.c.interaction_id, interactions.c.erased_at.is_(None)
        )
    )
    return select(page.c.interaction_id, case((kept, 0), else_=1)).order_by(page.c.interaction_id)


def _orphans() -> Executable:
    page = (
        select(media_contents.c.id)
        .where(media_contents.c.id > bindparam("after", type_=LargeBinary))
        .order_by(media_contents.c.id)
        .limit(_AT_ONCE)
        .subquery("page")
    )
    named = exists(select(literal_column("1")).where(media.c.content_id == page.c.id))
    return select(page.c.id, case((named, 0), else_=1)).order_by(page.c.id)


#: What names media, a page in the order of keys, each with whether it is erased, or gone altogether.
LEFT_BEHIND = Query("media of erased interactions", _left_behind())
#: Bytes of media, a page in the order of their ids, each with whether nothing names them.
ORPHANS = Query("media that nothing names", _orphans())
