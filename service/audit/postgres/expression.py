"""A search as PostgreSQL is asked for it."""

from __future__ import annotations

from service.audit.words import Phrase, Search, any_of


def tsquery(search: Search, *, in_order: bool = True) -> str:
    """A search as the text of a ``tsquery``; without the order of words it finds more."""
    between = " <-> " if in_order else " & "
    wanted = [any_of([_phrase(one, between) for one in several], " | ") for several in search.wanted]
    unwanted = [one for one in search.unwanted if in_order or len(one.words) == 1]
    return " & ".join([*wanted, *(f"!{_phrase(phrase, between)}" for phrase in unwanted)])


def _phrase(phrase: Phrase, between: str) -> str:
    words = [f"'{word}'" for word in phrase.words]
    if phrase.prefix:
        words[-1] += ":*"
    return words[0] if len(words) == 1 else f"({between.join(words)})"
