"""What a search asks for: words, "phrases", prefixes*, -exclusions and OR, read once for every database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from service.audit.folding import words_of
from service.audit.texts import separated
from service.errors import InvalidRequest

_PART: Final = re.compile(r'(-?)"([^"]*)"?(\*?)|(\S+)')
#: Each word of OR is one of them.
_MOST_PARTS: Final = 32
_LONGEST: Final = 500


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that follow one another; with ``prefix`` the last of them may go on."""

    text: str
    words: tuple[str, ...]
    prefix: bool


@dataclass(frozen=True, slots=True)
class Search:
    """All of ``wanted`` must be there, of each at least one alternative, and none of ``unwanted``."""

    wanted: tuple[tuple[Phrase, ...], ...]
    unwanted: tuple[Phrase, ...]

    def phrases(self) -> list[Phrase]:
        """Everything that can be found."""
        return [phrase for alternatives in self.wanted for phrase in alternatives]

    @property
    def has_phrases(self) -> bool:
        """Whether it matters in which order words are."""
        return any(len(phrase.words) > 1 for phrase in self.phrases())

    @property
    def has_prefixes(self) -> bool:
        """Whether the beginning of a word is asked for."""
        return any(phrase.prefix for phrase in (*self.phrases(), *self.unwanted))


def parse(text: str) -> Search:
    """Read what a caller searches for; raises :class:`InvalidRequest` when that is nothing, or too much."""
    if len(text) > _LONGEST:
        raise InvalidRequest(f"The value is invalid for 'q'. Expected at most {_LONGEST} characters.")
    parts = list(_PART.finditer(text.replace("\0", " ")))
    if len(parts) > _MOST_PARTS:
        raise InvalidRequest(
            f"The value is invalid for 'q'. Expected at most {_MOST_PARTS} words, phrases and ORs, got {len(parts)}."
        )
    wanted: list[tuple[Phrase, ...]] = []
    unwanted: list[Phrase] = []
    alternative = False
    for part in parts:
        if part[0] == "OR":
            alternative = bool(wanted)
            continue
        negated, phrase = _phrase(part)
        if phrase is None:
            continue
        if negated:
            unwanted.append(phrase)
        elif alternative:
            wanted[-1] = (*wanted[-1], phrase)
        else:
            wanted.append((phrase,))
        alternative = False
    if not wanted:
        raise InvalidRequest(
            "The value is invalid for 'q'. Expected words to search for; what is to be left out (-word) needs "
            "something that is wanted beside it."
        )
    return Search(tuple(wanted), tuple(unwanted))


def _phrase(part: re.Match[str]) -> tuple[bool, Phrase | None]:
    if part[4] is None:
        negated, text, prefix = bool(part[1]), part[2], bool(part[3])
    else:
        bare = part[4]
        negated, prefix = bare.startswith("-"), bare.endswith("*")
        text = bare.removeprefix("-").rstrip("*")
    words = tuple(words_of(separated(text)).split())
    return negated, Phrase(text, words, prefix) if words else None


def any_of(told: list[str], between: str) -> str:
    """Alternatives as one expression."""
    return told[0] if len(told) == 1 else f"({between.join(told)})"
