"""Where in a text a search has found something: a few words around it, and which of them it was."""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import islice
from typing import Any, Final

from service.audit.folding import words_of
from service.audit.texts import UNSPACED, shown
from service.audit.words import Phrase, Search

_ASCII_WORD: Final = re.compile(r"[^\W_]+", re.ASCII)
#: The planes of Unicode that have marks: the first two, and the selectors of variants.
_MAY_BE_MARKS: Final = (range(0x20000), range(0xE0100, 0xE01F0))
#: Voiced and semi-voiced kana of half width: they are letters to Unicode, and fold to nothing.
_VOICED: Final = "\uff9e\uff9f"
#: Words that are looked at together.
_AT_ONCE: Final = 512
_BEFORE: Final = 8
_AFTER: Final = 24
_LONGEST: Final = 400
_ELLIPSIS: Final = "\u2026"

_Words = Sequence[re.Match[str]]


class _Beginnings(dict[str, bool]):
    """Whether a phrase may begin with a word, by the word as it is written: most are looked at once and never again."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        super().__init__()
        self._whole = {phrase.words[0] for phrase in phrases if len(phrase.words) > 1 or not phrase.prefix}
        self._prefixes = tuple(
            phrase.words[0] for phrase in phrases if len(phrase.words) == 1 and phrase.prefix
        )

    def __missing__(self, word: str) -> bool:
        found = self[word] = any(
            folded in self._whole or folded.startswith(self._prefixes) for folded in _folded(word)
        )
        return found


class Snippets:
    """Of one search, in any number of texts."""

    def __init__(self, search: Search) -> None:
        self._phrases = search.phrases()
        self._beginnings = _Beginnings(self._phrases)
        self._longest = max(len(phrase.words) for phrase in self._phrases)
        #: The words that a phrase may begin with, and whether they must end there.
        self._firsts = {
            (phrase.words[0], not phrase.prefix or len(phrase.words) > 1) for phrase in self._phrases
        }

    def of_document(self, asked: str, answered: str) -> list[dict[str, Any]]:
        """A snippet of the input and one of the output, where something was found in them.

        ``highlights`` are pairs of places in ``text``, first character and the one behind the last, in code points.
        """
        found = []
        for place, text in (("input", asked), ("output", answered)):
            if (snippet := self._of_text(shown(text))) is not None:
                found.append({"in": place, **snippet})
        return found

    def _of_text(self, text: str) -> dict[str, Any] | None:
        return self._of_ascii(text) if text.isascii() else self._of_any(text)

    def _of_ascii(self, text: str) -> dict[str, Any] | None:
        """The same as of any text, whose other words need not be looked at: what is ASCII is folded to itself."""
        folded = text.lower()
        for start in heapq.merge(*(_places(folded, word, whole=whole) for word, whole in self._firsts)):
            if _length(self._phrases, list(islice(_ASCII_WORD.finditer(text, start), self._longest)), 0):
                # Where that cuts a word, it is too far away to be told of.
                begin = max(0, start - _LONGEST)
                words = list(_ASCII_WORD.finditer(text, begin, start))
                if (earlier := _ASCII_WORD.search(text, 0, begin)) is not None:
                    # There is none in front of the first of a text, and so it is known that they are not that.
                    words.insert(0, earlier)
                place = len(words)
                words += islice(_ASCII_WORD.finditer(text, start), _AFTER + self._longest)
                return _around(self._phrases, words, place, text)
        return None

    def _of_any(self, text: str) -> dict[str, Any] | None:
        words: list[re.Match[str]] = []
        more = _as_folded(_word().finditer(text))
        beginnings = self._beginnings
        looked_at = 0
        while True:
            batch = list(islice(more, _AT_ONCE))
            words += batch
            whole = len(batch) < _AT_ONCE
            # What begins at the end of a batch may go on in the next.
            known = len(words) if whole else len(words) - self._longest + 1
            for place in [at for at in range(looked_at, known) if beginnings[words[at][0]]]:
                if _length(self._phrases, words, place):
                    words += islice(more, _AFTER)
                    return _around(self._phrases, words, place, text)
            if whole:
                return None
            looked_at = max(looked_at, known)


@cache
def _word() -> re.Pattern[str]:
    """A word of any text: letters with the marks that ``words_of`` joins them across, and all marks behind them."""
    marks = [
        one for codes in _MAY_BE_MARKS for one in map(chr, codes) if unicodedata.category(one).startswith("M")
    ]
    unspaced = re.compile(f"[{UNSPACED}]")
    joining = "".join(one for one in marks if unicodedata.combining(one) and not unspaced.match(one))
    letters, behind = f"[^\\W_{UNSPACED}]", f"[{''.join(marks)}{_VOICED}]*+"
    # To look for a mark among so many takes long, and most words end with what is before the first of them.
    marked = f"(?:(?=[{marks[0]}-\U0010ffff])(?:[{joining}]++{letters}*+)*+{behind})?"
    return re.compile(f"[{UNSPACED}]{behind}|{letters}++{marked}")


def _as_folded(words: Iterable[re.Match[str]]) -> Iterator[re.Match[str]]:
    """Each as many times as it is words when it is folded: a half is two (1 and 2), a mark on its own is none."""
    return (word for word in words for _ in _folded(word[0]))


def _places(text: str, word: str, *, whole: bool) -> Iterator[int]:
    """Where a word of a text begins with another, or is it as a ``whole``."""
    place = text.find(word)
    while place >= 0:
        begins = not place or not text[place - 1].isalnum()
        if begins and not (whole and text[place + len(word) : place + len(word) + 1].isalnum()):
            yield place
        place = text.find(word, place + 1)


def _around(phrases: Sequence[Phrase], words: _Words, place: int, text: str) -> dict[str, Any]:
    first = max(0, place - _BEFORE)
    last = min(len(words), place + _AFTER)
    start = words[first].start() if first else 0
    start = max(start, words[place].start() - _LONGEST // 2)
    end = min(words[last - 1].end(), start + _LONGEST)
    lead = _ELLIPSIS if start else ""
    highlights: list[list[int]] = []
    for at in range(first, last):
        length = _length(phrases, words, at)
        if not length or words[at].start() < start or words[min(at + length, len(words)) - 1].end() > end:
            continue
        found = [words[at].start() - start + len(lead), words[at + length - 1].end() - start + len(lead)]
        if highlights and found[0] < highlights[-1][1]:
            # Phrases may have words in common, and what is one word here may be two when it is folded.
            highlights[-1][1] = max(found[1], highlights[-1][1])
        else:
            highlights.append(found)
    return {
        "text": f"{lead}{text[start:end]}{_ELLIPSIS if end < len(text) else ''}",
        "highlights": highlights,
    }


def _length(phrases: Sequence[Phrase], words: _Words, place: int) -> int:
    """How many words the longest phrase has that begins here; 0 when none does."""
    return max(
        (len(phrase.words) for phrase in phrases if _begins(phrase, words, place)),
        default=0,
    )


def _begins(phrase: Phrase, words: _Words, place: int) -> bool:
    *whole, last = phrase.words
    if place + len(phrase.words) > len(words):
        return False
    for offset, wanted in enumerate(whole):
        if wanted not in _folded(words[place + offset][0]):
            return False
    return any(
        word.startswith(last) if phrase.prefix else word == last
        for word in _folded(words[place + len(whole)][0])
    )


@lru_cache(maxsize=16_384)
def _folded(word: str) -> tuple[str, ...]:
    return tuple(words_of(word).split())
