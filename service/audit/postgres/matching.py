"""The statements of a search on PostgreSQL: what has the words, in the order of time or of how well it matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Select,
    Subquery,
    and_,
    any_,
    column,
    func,
    literal,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from service.audit.best_first import best_first
from service.audit.postgres.expression import tsquery
from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.tables import Key, interactions, search_documents

_KEY: Final = interactions.c.id


def matching(wanted: Wanted, search: Search) -> Select[Any]:
    """A page of what a search finds."""
    joined = interactions.join(search_documents, search_documents.c.interaction_id == _KEY)
    return wanted.ordered(
        select(*wanted.columns).select_from(joined).where(_matching(tsquery(search)), *wanted.conditions())
    )


def first(wanted: Wanted, search: Search, most: int) -> Select[Any]:
    """The part of such a page that is among the first ``most`` texts, whosever they are, in its order."""
    first = _first_texts(wanted, most)
    matched = _matching(tsquery(search), first.c.vector)
    chosen = select(*wanted.columns).select_from(first.join(interactions, first.c.interaction_id == _KEY))
    return wanted.ordered(chosen.where(matched, *wanted.conditions()), first.c.interaction_id)


def matches_among_first(wanted: Wanted, search: Search, most: int) -> Select[int, int]:
    """How many texts are looked at, at most so many, and how many of them match."""
    first = _first_texts(wanted, most)
    matched = _matching(tsquery(search), first.c.vector)
    return select(func.count(), func.count().filter(matched)).select_from(first)


def _first_texts(wanted: Wanted, most: int) -> Subquery:
    key = search_documents.c.interaction_id
    texts = wanted.within(select(key, search_documents.c.vector), key)
    return replace(wanted, limit=most).ordered(texts, key).subquery("first")


def all_keys(wanted: Wanted, query: str, most: int, among: Sequence[bytes] | None = None) -> Select[Any]:
    """What a ``tsquery`` finds within the time that is wanted, whatever else is wanted: all keys in one value.

    They are in the order of the page, and where ``among`` is given of these. A value for each takes longer to read than
    the index.
    """
    key = search_documents.c.interaction_id
    chosen = select(key).where(_matching(query))
    if among is not None:
        chosen = chosen.where(_one_of(among, key))
    found = wanted.within(chosen, key).limit(most).subquery("found")
    order = found.c[0].asc() if wanted.order == "asc" else found.c[0].desc()
    told = func.string_agg(func.uuid_send(found.c[0]), aggregate_order_by(literal(b"", LargeBinary), order))
    return select(told)


def among(wanted: Wanted, keys: Sequence[bytes], search: Search | None = None) -> Select[Any]:
    """Those of these interactions that are wanted, and are found by a search."""
    if search is None:
        return wanted.ordered(select(*wanted.columns).where(_one_of(keys, _KEY), *wanted.conditions()))
    key = search_documents.c.interaction_id
    source = search_documents.join(interactions, key == _KEY)
    found = (_one_of(keys, key), _between(keys, _KEY), _matching(tsquery(search)))
    return wanted.ordered(select(*wanted.columns).select_from(source).where(*found, *wanted.conditions()))


def among_with_common_words(wanted: Wanted, keys: Sequence[bytes], search: Search) -> Select[Any]:
    """The same where the index of words is of no use: to look at words takes longest, and is done last."""
    document = search_documents.c.interaction_id == _KEY
    has_words = select(literal_column("1", BigInteger)).where(document, _matching(tsquery(search)))
    # The offset keeps the planner from doing it first.
    one = has_words.correlate(interactions).offset(literal_column("0", BigInteger)).lateral("one")
    chosen = select(*wanted.columns).select_from(interactions.join(one, true()))
    return wanted.ordered(chosen.where(_one_of(keys, _KEY), *wanted.conditions()))


def _one_of(keys: Sequence[bytes], key: ColumnElement[bytes]) -> ColumnElement[bool]:
    return and_(any_(literal(list(keys), ARRAY(Key))) == key, _between(keys, key))


def _between(keys: Sequence[bytes], key: ColumnElement[bytes]) -> ColumnElement[bool]:
    """What tells in which partitions these keys are; the planner does not conclude that of a key from an equal one."""
    return key.between(literal(min(keys), Key), literal(max(keys), Key))


def _matching(query: str, vector: ColumnElement[Any] = search_documents.c.vector) -> ColumnElement[bool]:
    found: ColumnElement[bool] = vector.op("@@", is_comparison=True)(_query(query))
    return found


def _query(query: str) -> ColumnElement[Any]:
    return func.to_tsquery("simple", query)


def ranked(wanted: Wanted, search: Search, keys: Sequence[bytes] | None) -> Select[Any]:
    """The best of the newest matches; ``keys`` are those, None where they are still to be found."""
    rank = -func.ts_rank_cd(search_documents.c.vector, _query(tsquery(search)))
    if keys is None:
        chosen = matching(wanted, search).add_columns(rank.label("ranked"))
    else:
        listed = func.unnest(literal(list(keys), ARRAY(Key)))
        given = listed.table_valued(column("id", Key), name="given").render_derived()
        document = search_documents.c.interaction_id == given.c.id
        joined = given.join(search_documents, document).join(interactions, given.c.id == _KEY)
        chosen = select(*wanted.columns, rank.label("ranked")).select_from(joined)
        if keys:
            chosen = chosen.where(_between(keys, search_documents.c.interaction_id), _between(keys, _KEY))
    return best_first(chosen.subquery("found"))
