"""SQLite's texts to be searched: ``search_documents`` beside an FTS5 index, which triggers keep up.

The numbers of texts are in the order of time, by the millisecond, so that matches can be walked in that order.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    MetaData,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)

from service.audit.folding import folded
from service.store.script import Ask, Execute, Script
from service.store.statement import Query
from service.store.tables import Key, search_documents
from service.wire import ids

#: The index; its rowid is the number of a document.
index = Table(
    "search_index",
    MetaData(),
    Column("rowid", BigInteger),
    Column("search_index", Text),
    Column("rank", Float),
)

_deletions = Table("search_deletions", MetaData(), Column("number", BigInteger))
#: Pages that one step of merging writes.
_MERGED_PAGES: Final = 100
_MERGE: Final = Query(
    "merge the search index",
    text(f"INSERT INTO search_index (search_index, rank) VALUES ('merge', -{_MERGED_PAGES})"),  # noqa: S608
)
_DELETIONS: Final = Query("deletions", select(_deletions.c.number))
_CHANGES: Final = Query("changes of this connection", select(func.total_changes()))
_FORGET_DELETIONS: Final = Query("forget deletions", update(_deletions).values(number=0))

#: The bits of a document's number that tell it from others of its millisecond.
NUMBER_BITS: Final = 20
#: The milliseconds since the epoch that numbers tell apart.
MILLISECONDS: Final = 1 << 42

_INSERT: Final = Query(
    "insert document into sqlite",
    insert(search_documents).values(
        number=bindparam("number", type_=BigInteger),
        interaction_id=bindparam("interaction_id", type_=Key),
        input=bindparam("input", type_=Text),
        output=bindparam("output", type_=Text),
        folded_input=bindparam("folded_input", type_=Text),
        folded_output=bindparam("folded_output", type_=Text),
    ),
)


def number_of(key: bytes) -> int:
    """A number for a document: its millisecond, and chance that tells it from others of the same."""
    return first_number(key) + secrets.randbelow(1 << NUMBER_BITS)


def first_number(key: bytes) -> int:
    """The smallest number that a document of the key's millisecond can have."""
    return (ids.created_at(key) % MILLISECONDS) << NUMBER_BITS


def document(key: bytes, asked: str, answered: str) -> tuple[Query, dict[str, Any]]:
    """The statement that adds a document, with its parameters."""
    return _INSERT, {
        "number": number_of(key),
        "interaction_id": key,
        "input": asked,
        "output": answered,
        "folded_input": folded(asked),
        "folded_output": folded(answered),
    }


def tidying() -> Script:
    """One step of what makes the index forget the words of deleted texts; 0 when there is nothing left of them.

    A delete leaves them, without their text, in the segments of the index until those are merged.
    """
    ((deleted,),) = yield Ask(_DELETIONS)
    if not deleted:
        return 0
    ((before,),) = yield Ask(_CHANGES)
    yield Execute(_MERGE, [{}])
    ((after,),) = yield Ask(_CHANGES)
    if after - before >= 2:
        return 1
    yield Execute(_FORGET_DELETIONS, [{}])
    return 0
