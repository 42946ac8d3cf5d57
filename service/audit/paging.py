"""The statements of a page: by the way that finds its interactions soonest, whatever the filters ask for.

What has been derived from is walked along the terms that lead to it (:mod:`service.audit.terms`), the rest along the
index of what still waits: each interaction is in exactly one of the two, in any snapshot. One whose usage came later
may have terms of two buckets of a number; a page tells it once. A few filters have an index of their own, and free text
has the documents.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    LargeBinary,
    Select,
    any_,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from service.audit import conditions, terms
from service.audit.documents import first_number, index
from service.audit.filters import ANY, Filters
from service.audit.ordered_join import OrderedJoin
from service.audit.repetition import Repetition, place_of_repetition
from service.audit.words import Search
from service.store.tables import Key, interactions, listing_terms, search_documents

Order = Literal["desc", "asc", "rank"]

#: The condition of the index, word for word, and its opposite.
_WAITING: Final = text("derived_state IN (0, 3)")
_DERIVED: Final = text("derived_state NOT IN (0, 3)")
_KEY: Final = interactions.c.id
#: From how many terms on the keys are found first, and for how many pages at a time.
_MANY_TERMS: Final = 5
_PAGES_AHEAD: Final = 4
#: The parameter of a statement that is repeated for each term.
_TERM: Final = "term"
_NUMBERS_PER_MILLISECOND: Final = 1 << 20
#: Filters that have an index of their own, and mean few.
_DIRECT: Final = frozenset({"chain", "previous_interaction_id", "replay_of"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows a page has: what follows ``after`` in the order, at most ``limit`` of them."""

    columns: Sequence[ColumnElement[Any]]
    project_id: bytes
    filters: Filters
    order: Order
    limit: int
    after: bytes | None
    #: Of what not all interactions have the terms yet.
    lacking: Collection[str] = ()

    @property
    def is_direct(self) -> bool:
        """Whether an index of its own finds it."""
        choices = self.filters.choices
        return any(choice.field.name in _DIRECT and ANY not in choice.values for choice in choices)

    def leading(self, key_ids: Collection[bytes]) -> list[int]:
        """The terms to walk along; ``key_ids`` has the ids of the keys that the filters name."""
        return terms.leading(self.filters, self.project_id, key_ids, lacking=self.lacking)

    def led(self, key_ids: Collection[bytes]) -> list[int]:
        """The same, where they are other terms than the one that all have."""
        found = self.leading(key_ids)
        return [] if found == [terms.of_project(self.project_id)] else found

    def conditions(self) -> list[ColumnElement[bool]]:
        """What a row must be."""
        found = conditions.of_filters(self.filters, self.project_id)
        if self.is_direct and self.filters.deleted == "false":
            # It says no more than the filters do, and lets the index of children be used.
            found.append(interactions.c.erased_at.is_(None))
        if self.after is not None:
            place = literal(self.after, Key)
            found.append(place < _KEY if self.order == "asc" else place > _KEY)
        return found

    def ordered(self, chosen: Select[Any], by: ColumnElement[Any] = _KEY) -> Select[Any]:
        """The first rows of a statement."""
        return chosen.order_by(by.asc() if self.order == "asc" else by.desc()).limit(self.limit)

    def between(self, since: int | None, until: int | None) -> Wanted:
        """The same, of a part of its time, in microseconds since the epoch."""
        times = self.filters
        since = max((one for one in (since, times.since) if one is not None), default=None)
        until = min((one for one in (until, times.until) if one is not None), default=None)
        return replace(self, filters=replace(times, since=since, until=until))

    def lowest(self) -> bytes | None:
        """The key before which nothing is wanted."""
        since = self.filters.since
        bounds = [] if since is None else [conditions.key_from(since)]
        if self.after is not None and self.order == "asc":
            bounds.append(self.after)
        return max(bounds, default=None)

    def highest(self) -> bytes | None:
        """The key behind which nothing is wanted."""
        until = self.filters.until
        bounds = [] if until is None else [conditions.key_from(until)]
        if self.after is not None and self.order != "asc":
            bounds.append(self.after)
        return min(bounds, default=None)


def page_of(wanted: Wanted, dialect: str, key_ids: Collection[bytes]) -> Select[Any] | Repetition:
    """A page without free text; ``key_ids`` has the ids of the keys that the filters name."""
    if wanted.is_direct:
        return wanted.ordered(_plain(wanted))
    leading = wanted.leading(key_ids)
    keys = replace(wanted, columns=[_KEY])
    waiting = keys.ordered(_plain(keys).where(_WAITING))
    if dialect == "sqlite" and len(leading) > 1:
        walk = _along(keys, bindparam(_TERM, 0, type_=BigInteger), dialect)
        page: FromClause = place_of_repetition().columns(column("id", Key)).subquery("page")
        ending = f"ORDER BY 1 {wanted.order.upper()} LIMIT {wanted.limit}"
        return Repetition(_told(wanted, page), waiting, walk, _TERM, leading, ending)
    many = len(leading) > 1
    term = literal(leading[0], BigInteger)
    walk = _lateral(keys, leading, dialect) if many else _along(keys, term, dialect)
    both = union_all(*(select(*part.subquery().c) for part in (waiting, walk))).subquery("both")
    return _told(wanted, keys.ordered(select(*both.c), both.c[0]).subquery("page"))


def candidates_of(wanted: Wanted, key_ids: Collection[bytes]) -> Select[Any] | None:
    """The next keys among which is all that is wanted, without a look at what they are; some may come twice.

    None where not one term leads to them.
    """
    if wanted.filters.text is not None or wanted.is_direct:
        return None
    leading = wanted.leading(key_ids)
    if len(leading) != 1:
        return None
    walked = listing_terms.c.interaction_id
    along = select(walked.label("id")).where(listing_terms.c.term == literal(leading[0], BigInteger))
    if wanted.after is not None:
        place = literal(wanted.after, Key)
        along = along.where(walked > place if wanted.order == "asc" else walked < place)
    keys = replace(wanted, columns=[_KEY])
    parts = (keys.ordered(_plain(keys).where(_WAITING)), keys.ordered(_within(keys, along), walked))
    both = union_all(*(select(*part.subquery().c) for part in parts)).subquery("both")
    return keys.ordered(select(*both.c), both.c[0])


def _told(wanted: Wanted, page: FromClause) -> Select[Any]:
    """What is told of the rows of a page is looked up once it is known which they are."""
    told = select(*wanted.columns).select_from(OrderedJoin(page, interactions, page.c[0] == _KEY))
    return told.order_by(_KEY.asc() if wanted.order == "asc" else _KEY.desc())


def hopeful_page_of(wanted: Wanted, key_ids: Collection[bytes]) -> Select[Any] | None:
    """A page of many terms on PostgreSQL, out of the next few pages' worth of keys; None where that gains nothing.

    The keys are found in ``listing_terms`` alone, and what they are is looked up for those few. Each row ends with how
    many keys there were and which was the last; without any, one row has nothing but that. :func:`whole_page` tells
    whether it was enough.
    """
    if wanted.is_direct:
        return None
    leading = wanted.leading(key_ids)
    if len(leading) < _MANY_TERMS:
        return None
    walked = listing_terms.c.interaction_id
    given = _given(leading)
    walk = _within(wanted, select(walked.label("id")).where(listing_terms.c.term == given.c.term))
    ahead = replace(wanted, limit=_PAGES_AHEAD * wanted.limit)
    each = ahead.ordered(walk, walked).lateral("walk")
    several = select(each.c.id).distinct().select_from(given.join(each, true()))
    candidates = ahead.ordered(several, each.c.id).cte("candidates")
    keys = replace(wanted, columns=[_KEY])
    found = keys.ordered(
        select(_KEY)
        .select_from(candidates.join(interactions, candidates.c.id == _KEY))
        .where(_DERIVED, *wanted.conditions())
    )
    waiting = keys.ordered(_plain(keys).where(_WAITING))
    both = union_all(*(select(*part.subquery().c) for part in (waiting, found))).subquery("both")
    page = keys.ordered(select(*both.c), both.c[0]).subquery("page")
    edge = candidates.c.id
    last = select(edge).order_by(edge.desc() if wanted.order == "asc" else edge.asc()).limit(1)
    many = select(func.count()).select_from(candidates).scalar_subquery()
    considered = select(many.label("many"), last.scalar_subquery().label("last")).subquery("considered")
    found_rows = page.join(interactions, page.c[0] == _KEY)
    chosen = select(*wanted.columns, *considered.c).select_from(considered.outerjoin(found_rows, true()))
    return chosen.order_by(_KEY.asc() if wanted.order == "asc" else _KEY.desc())


def whole_page(wanted: Wanted, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]] | None:
    """The rows of a hopeful page, if nothing that was not looked at can stand between them."""
    considered, last = rows[0][-2:]
    found = [row[:-2] for row in rows if row[0] is not None]
    if considered < _PAGES_AHEAD * wanted.limit:
        return found
    if len(found) < wanted.limit:
        return None
    lowest = found[-1][0]
    return found if (lowest <= last if wanted.order == "asc" else lowest >= last) else None


def _plain(wanted: Wanted) -> Select[Any]:
    return select(*wanted.columns).where(*wanted.conditions())


def _along(wanted: Wanted, term: ColumnElement[Any], dialect: str) -> Select[Any]:
    walked = listing_terms.c.interaction_id
    chosen = select(*wanted.columns).where(_DERIVED, *wanted.conditions())
    if dialect == "sqlite":
        chosen = chosen.select_from(OrderedJoin(listing_terms, interactions, walked == _KEY))
    else:
        # PostgreSQL knows neither how rare a term is nor that it says what the conditions say, and may look through all
        # interactions for them: the offset has it look each one up.
        found = chosen.where(walked == _KEY).correlate(listing_terms)
        one = found.offset(literal_column("0", BigInteger)).lateral("one")
        chosen = select(*one.c).select_from(listing_terms.join(one, true()))
    return wanted.ordered(_within(wanted, chosen.where(listing_terms.c.term == term)), walked)


def _within(
    wanted: Wanted, chosen: Select[Any], walked: ColumnElement[Any] = listing_terms.c.interaction_id
) -> Select[Any]:
    """The bounds of time and place, on what is walked."""
    if (lowest := wanted.lowest()) is not None:
        chosen = chosen.where(walked >= literal(lowest, Key))
    if (highest := wanted.highest()) is not None:
        chosen = chosen.where(walked <= literal(highest, Key))
    return chosen


def _lateral(wanted: Wanted, leading: Sequence[int], dialect: str) -> Select[Any]:
    """One walk, planned once, for each of any number of terms; what has several of them is told once."""
    given = _given(leading)
    walk = _along(wanted, given.c.term, dialect).lateral("walk")
    return wanted.ordered(select(*walk.c).distinct().select_from(given.join(walk, true())), walk.c[0])


def _given(leading: Sequence[int]) -> Any:
    listed = func.unnest(literal(list(leading), ARRAY(BigInteger)))
    return listed.table_valued(column("term", BigInteger), name="given").render_derived()


def keys_by_filters(wanted: Wanted, led: Sequence[int], most: int) -> Select[Any] | None:
    """Keys among which is all that the filters mean, in no order; None where none leads to them.

    Some may come twice; where so many come, there may be more.
    """
    keys = replace(wanted, columns=[_KEY])
    if wanted.is_direct:
        return _plain(keys).limit(most)
    if not led:
        return None
    walked = listing_terms.c.interaction_id
    several = listing_terms.c.term.in_([literal(one, BigInteger) for one in led])
    along = _within(wanted, select(walked.label("id")).where(several))
    parts = (along.limit(most), _plain(keys).where(_WAITING).limit(most))
    both = union_all(*(select(*part.subquery().c) for part in parts)).subquery("both")
    return select(both.c.id).limit(most)


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
    found = _within(wanted, select(key).where(_matching(query)), key).limit(most).subquery("found")
    order = found.c[0].asc() if wanted.order == "asc" else found.c[0].desc()
    told = func.string_agg(func.uuid_send(found.c[0]), aggregate_order_by(literal(b"", LargeBinary), order))
    return select(told)


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
