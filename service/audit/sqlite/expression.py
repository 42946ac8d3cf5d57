"""A search as FTS5 is asked for it (https://sqlite.org/fts5.html#full_text_query_syntax)."""

from __future__ import annotations

from service.audit.folding import folded
from service.audit.texts import separated
from service.audit.words import Phrase, Search, any_of


def fts5(search: Search) -> str:
    """A search as an FTS5 expression."""
    wanted = " AND ".join(any_of([_phrase(one) for one in several], " OR ") for several in search.wanted)
    return " NOT ".join([f"({wanted})", *(_phrase(phrase) for phrase in search.unwanted)])


def _phrase(phrase: Phrase) -> str:
    """As FTS5 folds it and, where that is another thing, as it stands in texts that are folded further."""
    written = separated(phrase.text).replace('"', '""')
    spelled = [written] if folded(written) is None else [written, " ".join(phrase.words)]
    return any_of([f'"{words}" *' if phrase.prefix else f'"{words}"' for words in spelled], " OR ")
