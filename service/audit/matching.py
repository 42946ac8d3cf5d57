"""The statements of a search: what has the words, in the order of time or of how well it matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    LargeBinary,
    Select,
    Subquery,
    TableValuedAlias,
    any_,
    column,
    func,
    literal,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from service.audit.documents import MILLISECONDS, NUMBER_BITS, first_number, index
from service.audit.ordered_join import OrderedJoin
from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.tables import Key, interactions, search_documents
from service.wire import ids

_KEY: Final = interactions.c.id
_NUMBERS_PER_MILLISECOND: Final = 1 << NUMBER_BITS


def matching_in_sqlite(wanted: Wanted, search: Search, few: Select[Any] | None = None) -> Select[Any]:
    """A page of what a search finds, on SQLite; ``few`` has the keys among which it is, None where they are many.

    Numbers are in the order of time by the millisecond: matches are walked along them until there are enough, and then
    all of the last millisecond are taken in, so that the order of keys is exact.
    """
    walked = index.c.rowid
    inner = wanted.ordered(_matches(wanted, search, few, search_documents.c.number), walked).subquery(
        "walked"
    )
    milliseconds = literal_column(str(_NUMBERS_PER_MILLISECOND), BigInteger)
    if wanted.order != "asc":
        edge = select(func.min(inner.c[0]) // milliseconds * milliseconds).scalar_subquery()
        bound = walked >= edge
    else:
        edge = select((func.max(inner.c[0]) // milliseconds + 1) * milliseconds).scalar_subquery()
        bound = walked < edge
    return wanted.ordered(_matches(wanted, search, few, *wanted.columns).where(bound))


def _matches(
    wanted: Wanted, search: Search, few: Select[Any] | None, *columns: ColumnElement[Any]
) -> Select[Any]:
    walked = index.c.rowid
    of_document = search_documents.c.number == walked
    of_interaction = search_documents.c.interaction_id == _KEY
    if few is not None:
        keys = select(*few.subquery("twice").c).distinct().subquery("few")
        source: FromClause = OrderedJoin(
            keys, search_documents, search_documents.c.interaction_id == keys.c[0]
        )
        source = OrderedJoin(source, interactions, of_interaction)
        source = OrderedJoin(source, index, of_document)
    else:
        source = OrderedJoin(index, search_documents, of_document)
        source = OrderedJoin(source, interactions, of_interaction)
    chosen = select(*columns).select_from(source).where(_in_index(search), *wanted.conditions())
    # The conditions have the exact bounds; numbers begin anew in 2109.
    if (lowest := wanted.lowest()) is not None and ids.created_at(lowest) < MILLISECONDS:
        chosen = chosen.where(walked >= first_number(lowest))
    if (highest := wanted.highest()) is not None and ids.created_at(highest) < MILLISECONDS:
        chosen = chosen.where(walked < first_number(highest) + _NUMBERS_PER_MILLISECOND)
    return chosen


def some_in_sqlite(search: Search, most: int) -> Select[Any]:
    """How many texts match, whosever they are, as far as ``most``."""
    some = select(index.c.rowid).where(_in_index(search)).limit(most).subquery("some")
    return select(func.count()).select_from(some)


def numbers_near(search: Search, keys: Sequence[bytes]) -> Select[Any]:
    """The numbers of texts that match and came in the same milliseconds as some of these interactions, on SQLite.

    One pass over all matches from the first to the last of them takes less than to ask of each whether it matches.
    """
    firsts = [first_number(key) for key in keys]
    milliseconds = _listed([first // _NUMBERS_PER_MILLISECOND for first in firsts])
    number = index.c.rowid
    of_these = number.op(">>", return_type=BigInteger())(literal_column(str(NUMBER_BITS), BigInteger))
    bounds = (number >= min(firsts), number < max(firsts) + _NUMBERS_PER_MILLISECOND)
    return select(number).where(_in_index(search), *bounds, of_these.in_(select(milliseconds.c.value)))


def with_numbers(wanted: Wanted, numbers: Sequence[int], keys: Sequence[bytes]) -> Select[Any]:
    """What is wanted of the texts with these numbers, among interactions that are not behind the last of ``keys``."""
    given = _listed(numbers)
    source = OrderedJoin(given, search_documents, search_documents.c.number == given.c.value)
    source = OrderedJoin(source, interactions, search_documents.c.interaction_id == _KEY)
    last = literal(keys[-1], Key)
    not_behind = last >= _KEY if wanted.order == "asc" else last <= _KEY
    chosen = select(*wanted.columns).select_from(source)
    return wanted.ordered(chosen.where(not_behind, *wanted.conditions()))


def _listed(numbers: Sequence[int]) -> TableValuedAlias:
    return func.json_each(literal(orjson.dumps(numbers).decode())).table_valued("value", name="listed")


def _in_index(search: Search) -> ColumnElement[bool]:
    matched: ColumnElement[bool] = index.c.search_index.op("MATCH", is_comparison=True)(
        literal(search.for_sqlite())
    )
    return matched


def matching_in_postgres(wanted: Wanted, search: Search) -> Select[Any]:
    """A page of what a search finds, on PostgreSQL."""
    joined = interactions.join(search_documents, search_documents.c.interaction_id == _KEY)
    return wanted.ordered(
        select(*wanted.columns)
        .select_from(joined)
        .where(_matching(search.for_postgres()), *wanted.conditions())
    )


def first_in_postgres(wanted: Wanted, search: Search, most: int) -> Select[Any]:
    """The part of such a page that is among the first ``most`` texts, whosever they are, in its order."""
    first = _first_texts(wanted, most)
    matched = _matching(search.for_postgres(), first.c.vector)
    chosen = select(*wanted.columns).select_from(first.join(interactions, first.c.interaction_id == _KEY))
    return wanted.ordered(chosen.where(matched, *wanted.conditions()), first.c.interaction_id)


def matches_among_first(wanted: Wanted, search: Search, most: int) -> Select[int, int]:
    """How many texts are looked at, at most so many, and how many of them match."""
    first = _first_texts(wanted, most)
    matched = _matching(search.for_postgres(), first.c.vector)
    return select(func.count(), func.count().filter(matched)).select_from(first)


def _first_texts(wanted: Wanted, most: int) -> Subquery:
    key = search_documents.c.interaction_id
    texts = wanted.within(select(key, search_documents.c.vector), key)
    return replace(wanted, limit=most).ordered(texts, key).subquery("first")


def keys_in_postgres(wanted: Wanted, query: str, most: int) -> Select[Any]:
    """What a ``tsquery`` finds within the time that is wanted, whatever else is wanted: all keys in one value.

    They are in the order of the page. A value for each takes longer to read than the index.
    """
    key = search_documents.c.interaction_id
    found = wanted.within(select(key).where(_matching(query)), key).limit(most).subquery("found")
    order = found.c[0].asc() if wanted.order == "asc" else found.c[0].desc()
    told = func.string_agg(func.uuid_send(found.c[0]), aggregate_order_by(literal(b"", LargeBinary), order))
    return select(told)


def among(wanted: Wanted, keys: Sequence[bytes], search: Search | None = None) -> Select[Any]:
    """Those of these interactions that are wanted, and are found by a search."""
    if search is None:
        return wanted.ordered(select(*wanted.columns).where(_one_of(keys, _KEY), *wanted.conditions()))
    key = search_documents.c.interaction_id
    source = search_documents.join(interactions, key == _KEY)
    found = (_one_of(keys, key), _matching(search.for_postgres()))
    return wanted.ordered(select(*wanted.columns).select_from(source).where(*found, *wanted.conditions()))


def among_with_common_words(wanted: Wanted, keys: Sequence[bytes], search: Search) -> Select[Any]:
    """The same where the index of words is of no use: to look at words takes longest, and is done last."""
    document = search_documents.c.interaction_id == _KEY
    has_words = select(literal_column("1", BigInteger)).where(document, _matching(search.for_postgres()))
    # The offset keeps the planner from doing it first.
    one = has_words.correlate(interactions).offset(literal_column("0", BigInteger)).lateral("one")
    chosen = select(*wanted.columns).select_from(interactions.join(one, true()))
    return wanted.ordered(chosen.where(_one_of(keys, _KEY), *wanted.conditions()))


def _one_of(keys: Sequence[bytes], key: ColumnElement[bytes]) -> ColumnElement[bool]:
    return any_(literal(list(keys), ARRAY(Key))) == key


def _matching(query: str, vector: ColumnElement[Any] = search_documents.c.vector) -> ColumnElement[bool]:
    found: ColumnElement[bool] = vector.op("@@", is_comparison=True)(_query(query))
    return found


def _query(query: str) -> ColumnElement[Any]:
    return func.to_tsquery("simple", query)


def ranked_in_sqlite(
    wanted: Wanted, search: Search, offset: int, limit: int, few: Select[Any] | None = None
) -> Select[Any]:
    """The best of the newest matches, on SQLite; ``wanted`` says how many are looked at.

    ``few`` has the keys among which they are, None where those are many.
    """
    found = wanted.ordered(
        _matches(wanted, search, few, *wanted.columns, index.c.rank.label("ranked")), index.c.rowid
    ).subquery("found")
    return _best_first(found, offset, limit)


def ranked_with_numbers(
    wanted: Wanted, search: Search, offset: int, limit: int, numbers: Sequence[int]
) -> Select[Any]:
    """The best of the texts with these numbers, all of which match, on SQLite."""
    given = _listed(numbers)
    number = index.c.rowid
    # Said of the number itself, the index would be asked anew for each.
    these = (number + literal_column("0", BigInteger)).in_(select(given.c.value))
    bounds = (number >= min(numbers, default=0), number <= max(numbers, default=0))
    source = OrderedJoin(index, search_documents, search_documents.c.number == number)
    source = OrderedJoin(source, interactions, search_documents.c.interaction_id == _KEY)
    ranked = select(*wanted.columns, index.c.rank.label("ranked")).select_from(source)
    found = ranked.where(_in_index(search), these, *bounds).subquery("found")
    return _best_first(found, offset, limit)


def ranked_in_postgres(
    wanted: Wanted, search: Search, offset: int, limit: int, keys: Sequence[bytes] | None
) -> Select[Any]:
    """The best of the newest matches, on PostgreSQL; ``keys`` are those, None where they are still to be found."""
    rank = -func.ts_rank_cd(search_documents.c.vector, _query(search.for_postgres()))
    if keys is None:
        chosen = matching_in_postgres(wanted, search).add_columns(rank.label("ranked"))
    else:
        listed = func.unnest(literal(list(keys), ARRAY(Key)))
        given = listed.table_valued(column("id", Key), name="given").render_derived()
        document = search_documents.c.interaction_id == given.c.id
        joined = given.join(search_documents, document).join(interactions, given.c.id == _KEY)
        chosen = select(*wanted.columns, rank.label("ranked")).select_from(joined)
    return _best_first(chosen.subquery("found"), offset, limit)


def _best_first(found: Subquery, offset: int, limit: int) -> Select[Any]:
    """A part of what was found, the best first, of which the last column is the rank.

    Each row ends with the keys of the oldest and the newest of all that was found.
    """
    *columns, rank = found.c
    key = columns[0]
    oldest = func.first_value(key).over(order_by=key.asc())
    newest = func.first_value(key).over(order_by=key.desc())
    return select(*columns, oldest, newest).order_by(rank, key.desc()).offset(offset).limit(limit)
