"""The table that is searched, which is another one on each database, and what is written to it.

SQLite: ``search_documents`` beside an FTS5 index, which triggers keep up. Its numbers are in the order of time, by the
millisecond, so that matches can be walked in that order. FTS5 folds the case of letters and takes the accents of Latin
ones away; a text for which that is too little is put into the index as words that are normalised here. PostgreSQL: the
words as a ``tsvector`` beside the text, made of words that are normalised here, because what the server takes for a
letter depends on the locale it was set up with.
"""

from __future__ import annotations

import secrets
import unicodedata
from functools import lru_cache
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

from service.store.script import Ask, Execute, Script
from service.store.statement import Query
from service.store.tables import Key, search_documents

#: SQLite's index; its rowid is the number of a document.
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
#: A word that keeps phrases from reaching from an input into an output.
_BOUNDARY: Final = "boundaryofinputandoutput"
#: Letters that FTS5 takes the accents of (https://sqlite.org/fts5.html#unicode61_tokenizer) where they are on one of a
#: to z: Latin-1, Extended-A and -B but for one that has two, Extended Additional. Others of which it knows the small
#: ones: Greek, Cyrillic, Armenian.
_WITHOUT_ACCENTS: Final = frozenset(map(chr, (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)))) - {
    "\u01e0",
    "\u01e1",
}
_WITHOUT_CASE: Final = frozenset(map(chr, range(0x386, 0x528))) | frozenset(map(chr, range(0x531, 0x557)))
_ASCII: Final = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_key = bindparam("interaction_id", type_=Key)
_input = bindparam("input", type_=Text)
_output = bindparam("output", type_=Text)

INSERT_INTO_SQLITE: Final = Query(
    "insert document into sqlite",
    insert(search_documents).values(
        number=bindparam("number", type_=BigInteger),
        interaction_id=_key,
        input=_input,
        output=_output,
        folded_input=bindparam("folded_input", type_=Text),
        folded_output=bindparam("folded_output", type_=Text),
    ),
)
INSERT_INTO_POSTGRES: Final = Query(
    "insert document into postgres",
    insert(search_documents).values(
        interaction_id=_key,
        input=_input,
        output=_output,
        vector=func.to_tsvector("simple", bindparam("words", type_=Text)),
    ),
)


def number_of(key: bytes) -> int:
    """A number for a document: its millisecond, and chance that tells it from others of the same."""
    return first_number(key) + secrets.randbelow(1 << NUMBER_BITS)


def first_number(key: bytes) -> int:
    """The smallest number that a document of the key's millisecond can have."""
    return (int.from_bytes(key[:6], "big") % MILLISECONDS) << NUMBER_BITS


def words_of(text: str) -> str:
    """The words of a text as both a document and a query have them: folded, without accents, one space between."""
    spaced = text.translate(_ASCII) if text.isascii() else "".join(map(_folded_letter, text))
    return " ".join(spaced.split())


@lru_cache(maxsize=16_384)
def _folded_letter(letter: str) -> str:
    """What a letter is in a word; a space where it is none."""
    if not (letter.isalnum() or unicodedata.combining(letter)):
        # A symbol is no part of a word, whatever letters it is made of.
        return " "
    decomposed = unicodedata.normalize("NFKD", letter)
    kept = "".join(one for one in decomposed if not unicodedata.combining(one))
    return "".join(one if one.isalnum() else " " for one in kept.casefold())


def folded(text: str) -> str | None:
    """The words of a text where FTS5 would not fold it as :func:`words_of` does; None where it would."""
    if text.isascii() or not any(map(_is_folded_further, set(text))):
        return None
    return words_of(text)


@lru_cache(maxsize=16_384)
def _is_folded_further(letter: str) -> bool:
    if letter.isascii():
        return False
    if not (letter.isalnum() or unicodedata.combining(letter)):
        # FTS5 takes for a letter what is newer than its alphabet of 2012, or private, or has ceased to be one.
        category = unicodedata.ucd_3_2_0.category(letter)
        return category in ("Cn", "Co") or category[0] in "LN"
    words = words_of(letter)
    if letter in _WITHOUT_ACCENTS:
        decomposed = unicodedata.normalize("NFKD", letter)
        base, marks = decomposed[0], decomposed[1:]
        plain = base.isascii() and words == base.lower() and all(map(unicodedata.combining, marks))
        return not plain and words != letter.lower()
    return words != (letter.lower() if letter in _WITHOUT_CASE else letter)


def parameters(key: bytes, asked: str, answered: str, dialect: str) -> tuple[Query, dict[str, Any]]:
    """The statement that adds a document, with its parameters."""
    told: dict[str, Any] = {"interaction_id": key, "input": asked, "output": answered}
    if dialect == "sqlite":
        further = {"folded_input": folded(asked), "folded_output": folded(answered)}
        return INSERT_INTO_SQLITE, {**told, **further, "number": number_of(key)}
    words = f"{words_of(asked)} {_BOUNDARY} {words_of(answered)}"
    return INSERT_INTO_POSTGRES, {**told, "words": words}


def tidying() -> Script:
    """One step of what makes SQLite's index forget the words of deleted texts; 0 when there is nothing left of them.

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
