"""The statements of a search: what has the words, in the order of time or of how well it matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    LargeBinary,
    Select,
    any_,
    column,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from service.audit.documents import first_number, index
from service.audit.ordered_join import OrderedJoin
from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.tables import Key, interactions, search_documents

_KEY: Final = interactions.c.id
_NUMBERS_PER_MILLISECOND: Final = 1 << 20


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
    chosen = (
        select(*columns)
        .select_from(source)
        .where(index.c.search_index.op("MATCH")(literal(search.for_sqlite())), *wanted.conditions())
    )
    if (lowest := wanted.lowest()) is not None:
        chosen = chosen.where(walked >= first_number(lowest))
    if (highest := wanted.highest()) is not None:
        chosen = chosen.where(walked < first_number(highest) + _NUMBERS_PER_MILLISECOND)
    return chosen


def matching_in_postgres(wanted: Wanted, search: Search) -> Select[Any]:
    """A page of what a search finds, on PostgreSQL."""
    joined = interactions.join(search_documents, search_documents.c.interaction_id == _KEY)
    return wanted.ordered(
        select(*wanted.columns)
        .select_from(joined)
        .where(_matching(search.for_postgres()), *wanted.conditions())
    )


def keys_in_postgres(wanted: Wanted, query: str, most: int) -> Select[Any]:
    """What a ``tsquery`` finds within the time that is wanted, whatever else is wanted: all keys in one value.

    They are in the order of the page. A value for each takes longer to read than the index.
    """
    key = search_documents.c.interaction_id
    found = wanted.within(select(key).where(_matching(query)), key).limit(most).subquery("found")
    order = found.c[0].asc() if wanted.order == "asc" else found.c[0].desc()
    told = func.string_agg(func.uuid_send(found.c[0]), aggregate_order_by(literal(b"", LargeBinary), order))
    return select(told)


def texts_between(first: bytes, last: bytes, most: int) -> Select[Any]:
    """How many texts there are from one key to another, whosever they are, as far as ``most``."""
    key = search_documents.c.interaction_id
    lowest, highest = sorted((first, last))
    between = (key >= literal(lowest, Key), key <= literal(highest, Key))
    counted = select(literal_column("1", BigInteger)).where(*between).limit(most).subquery("counted")
    return select(func.count()).select_from(counted)


def among(wanted: Wanted, keys: Sequence[bytes], search: Search | None = None) -> Select[Any]:
    """Those of these interactions that are wanted, and are found by a search."""
    given = any_(literal(list(keys), ARRAY(Key)))
    if search is None:
        return wanted.ordered(select(*wanted.columns).where(given == _KEY, *wanted.conditions()))
    key = search_documents.c.interaction_id
    source = search_documents.join(interactions, key == _KEY)
    found = (given == key, _matching(search.for_postgres()))
    return wanted.ordered(select(*wanted.columns).select_from(source).where(*found, *wanted.conditions()))


def _matching(query: str) -> ColumnElement[bool]:
    found: ColumnElement[bool] = search_documents.c.vector.op("@@", is_comparison=True)(_query(query))
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
    *columns, rank = found.c
    return select(*columns).order_by(rank, columns[0].desc()).offset(offset).limit(limit)


def ranked_in_postgres(
    wanted: Wanted, search: Search, offset: int, limit: int, keys: Sequence[bytes] | None
) -> Select[Any]:
    """The best of the newest matches, on PostgreSQL; ``keys`` are those, None where they are still to be found."""
    rank = func.ts_rank_cd(search_documents.c.vector, _query(search.for_postgres()))
    if keys is None:
        chosen = matching_in_postgres(wanted, search).add_columns(rank.label("ranked"))
    else:
        listed = func.unnest(literal(list(keys), ARRAY(Key)))
        given = listed.table_valued(column("id", Key), name="given").render_derived()
        document = search_documents.c.interaction_id == given.c.id
        joined = given.join(search_documents, document).join(interactions, given.c.id == _KEY)
        chosen = select(*wanted.columns, rank.label("ranked")).select_from(joined)
    found = chosen.subquery("found")
    *columns, ranked = found.c
    return select(*columns).order_by(ranked.desc(), columns[0].desc()).offset(offset).limit(limit)
