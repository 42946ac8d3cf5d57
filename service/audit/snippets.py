"""Where in a text a search has found something: a few words around it, and which of them it was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from service.audit.documents import words_of
from service.audit.texts import UNSPACED, shown
from service.audit.words import Phrase, Search

_WORD: Final = re.compile(f"[{UNSPACED}]|[^\\W_{UNSPACED}]+")
_BEFORE: Final = 8
_AFTER: Final = 24
_LONGEST: Final = 400
_ELLIPSIS: Final = "\u2026"


@dataclass(frozen=True, slots=True)
class _Word:
    folded: tuple[str, ...]
    start: int
    end: int


def of_document(search: Search, asked: str, answered: str) -> list[dict[str, Any]]:
    """A snippet of the input and one of the output, where something was found in them.

    ``highlights`` are pairs of places in ``text``, first character and the one behind the last.
    """
    found = []
    for place, text in (("input", asked), ("output", answered)):
        if (snippet := _snippet(search.phrases(), shown(text))) is not None:
            found.append({"in": place, **snippet})
    return found


def _snippet(phrases: Sequence[Phrase], text: str) -> dict[str, Any] | None:
    words: list[_Word] = []
    more = _WORD.finditer(text)
    longest = max(len(phrase.words) for phrase in phrases)
    while batch := list(islice(more, 512)):
        first = max(0, len(words) - longest)
        words += [_Word(_folded(word[0]), word.start(), word.end()) for word in batch]
        for place in range(first, len(words)):
            if _length(phrases, words, place):
                words += [_Word(_folded(word[0]), word.start(), word.end()) for word in islice(more, _AFTER)]
                return _around(phrases, words, place, text)
    return None


def _around(phrases: Sequence[Phrase], words: list[_Word], place: int, text: str) -> dict[str, Any]:
    first = max(0, place - _BEFORE)
    last = min(len(words), place + _AFTER)
    start = words[first].start if first else 0
    start = max(start, words[place].start - _LONGEST // 2)
    end = min(words[last - 1].end, start + _LONGEST)
    lead = _ELLIPSIS if start else ""
    highlights = []
    skip = first
    for at in range(first, last):
        length = _length(phrases, words, at) if at >= skip else 0
        if length and words[at].start >= start and words[min(at + length, len(words)) - 1].end <= end:
            skip = at + length
            highlights.append([words[at].start - start + len(lead), words[skip - 1].end - start + len(lead)])
    return {
        "text": f"{lead}{text[start:end]}{_ELLIPSIS if end < len(text) else ''}",
        "highlights": highlights,
    }


def _length(phrases: Sequence[Phrase], words: Sequence[_Word], place: int) -> int:
    """How many words the longest phrase has that begins here; 0 when none does."""
    return max(
        (len(phrase.words) for phrase in phrases if _begins(phrase, words, place)),
        default=0,
    )


def _begins(phrase: Phrase, words: Sequence[_Word], place: int) -> bool:
    *whole, last = phrase.words
    if place + len(phrase.words) > len(words):
        return False
    for offset, wanted in enumerate(whole):
        if wanted not in words[place + offset].folded:
            return False
    return any(
        word.startswith(last) if phrase.prefix else word == last for word in words[place + len(whole)].folded
    )


@lru_cache(maxsize=16_384)
def _folded(word: str) -> tuple[str, ...]:
    return tuple(words_of(word).split())
