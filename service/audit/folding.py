"""The words of texts as they are searched: folded, without accents.

FTS5 folds the case of letters and takes the accents of Latin ones away; a text for which that is too little is put into
its index as words that are normalised here. PostgreSQL is given nothing but these.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

#: Letters that FTS5 takes the accents of (https://sqlite.org/fts5.html#unicode61_tokenizer) where they are on one of a
#: to z: Latin-1, Extended-A and -B but for one that has two, Extended Additional. Others of which it knows the small
#: ones: Greek, Cyrillic, Armenian.
_WITHOUT_ACCENTS: Final = frozenset(map(chr, (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)))) - {
    "\u01e0",
    "\u01e1",
}
_WITHOUT_CASE: Final = frozenset(map(chr, range(0x386, 0x528))) | frozenset(map(chr, range(0x531, 0x557)))
_ASCII: Final = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}


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
