"""What a search asks for: words, "phrases", prefixes*, -exclusions and OR, read once and said to each database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from service.audit.documents import folded, words_of
from service.audit.texts import separated
from service.errors import InvalidRequest

_PART: Final = re.compile(r'(-?)"([^"]*)"?(\*?)|(\S+)')
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

    def for_sqlite(self) -> str:
        """As an FTS5 expression."""
        wanted = " AND ".join(_any_of([_fts5(one) for one in several], " OR ") for several in self.wanted)
        return " NOT ".join([f"({wanted})", *(_fts5(phrase) for phrase in self.unwanted)])

    @property
    def has_phrases(self) -> bool:
        """Whether it matters in which order words are."""
        return any(len(phrase.words) > 1 for phrase in self.phrases())

    @property
    def has_prefixes(self) -> bool:
        """Whether the beginning of a word is asked for."""
        return any(phrase.prefix for phrase in (*self.phrases(), *self.unwanted))

    def for_postgres(self, *, in_order: bool = True) -> str:
        """As the text of a ``tsquery``; without the order of words it finds more."""
        between = " <-> " if in_order else " & "
        wanted = [_any_of([_tsquery(one, between) for one in several], " | ") for several in self.wanted]
        unwanted = [one for one in self.unwanted if in_order or len(one.words) == 1]
        return " & ".join([*wanted, *(f"!{_tsquery(phrase, between)}" for phrase in unwanted)])


def parse(text: str) -> Search:
    """Read what a caller searches for; raises :class:`InvalidRequest` when nothing is left of it."""
    if len(text) > _LONGEST:
        raise InvalidRequest(f"The value is invalid for 'q'. Expected at most {_LONGEST} characters.")
    wanted: list[tuple[Phrase, ...]] = []
    unwanted: list[Phrase] = []
    alternative = False
    for part in list(_PART.finditer(text.replace("\0", " ")))[:_MOST_PARTS]:
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


def _any_of(told: list[str], between: str) -> str:
    return told[0] if len(told) == 1 else f"({between.join(told)})"


def _fts5(phrase: Phrase) -> str:
    """As FTS5 folds it and, where that is another thing, as it stands in texts that are folded further."""
    written = separated(phrase.text).replace('"', '""')
    spelled = [written] if folded(written) is None else [written, " ".join(phrase.words)]
    return _any_of([f'"{words}" *' if phrase.prefix else f'"{words}"' for words in spelled], " OR ")


def _tsquery(phrase: Phrase, between: str) -> str:
    words = [f"'{word}'" for word in phrase.words]
    if phrase.prefix:
        words[-1] += ":*"
    return words[0] if len(words) == 1 else f"({between.join(words)})"
