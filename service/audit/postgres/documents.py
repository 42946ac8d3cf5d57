"""PostgreSQL's texts to be searched: their words as a ``tsvector`` beside them.

It is made of words that are normalised here, because what the server takes for a letter depends on the locale it was
set up with.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Text, bindparam, func, insert

from service.audit.folding import words_of
from service.store.statement import Query
from service.store.tables import Key, search_documents

#: A word that keeps phrases from reaching from an input into an output.
_BOUNDARY: Final = "boundaryofinputandoutput"
_INSERT: Final = Query(
    "insert document into postgres",
    insert(search_documents).values(
        interaction_id=bindparam("interaction_id", type_=Key),
        input=bindparam("input", type_=Text),
        output=bindparam("output", type_=Text),
        vector=func.to_tsvector("simple", bindparam("words", type_=Text)),
    ),
)


def document(key: bytes, asked: str, answered: str) -> tuple[Query, dict[str, Any]]:
    """The statement that adds a document, with its parameters."""
    words = f"{words_of(asked)} {_BOUNDARY} {words_of(answered)}"
    return _INSERT, {"interaction_id": key, "input": asked, "output": answered, "words": words}
