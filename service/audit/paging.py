"""The statements of a page: by the way that finds its interactions soonest, whatever the filters ask for.

What has been derived from is walked along the terms that lead to it (:mod:`service.audit.terms`), the rest along the
index of what still waits: each interaction is in exactly one of the two, in any snapshot. One whose usage came later
may have terms of two buckets of a number; a page tells it once. A few filters have an index of their own, and free text
has the documents.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
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
from sqlalchemy.dialects.postgresql import ARRAY

from service.audit import terms
from service.audit.ordered_join import OrderedJoin
from service.audit.repetition import Repetition, place_of_repetition
from service.audit.wanted import Wanted
from service.store.tables import Key, interactions, listing_terms

#: The condition of the index, word for word, and its opposite.
_WAITING: Final = text("derived_state IN (0, 3)")
_DERIVED: Final = text("derived_state NOT IN (0, 3)")
_KEY: Final = interactions.c.id
#: From how many terms on the keys are found first, and for how many pages at a time.
_MANY_TERMS: Final = 5
_PAGES_AHEAD: Final = 4
#: The parameter of a statement that is repeated for each term.
_TERM: Final = "term"


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
    keys = replace(wanted, columns=[_KEY])
    parts = (keys.ordered(_plain(keys).where(_WAITING)), keys.ordered(keys.behind(along), walked))
    both = union_all(*(select(*part.subquery().c) for part in parts)).subquery("both")
    return keys.ordered(select(*both.c), both.c[0])


def key_ahead(wanted: Wanted, many: int) -> Select[Any]:
    """The key of the project that so many come before, in the order of the page; no row where there are not so many."""
    walked = listing_terms.c.interaction_id
    of_project = listing_terms.c.term == literal(terms.of_project(wanted.project_id), BigInteger)
    one = replace(wanted, limit=1)
    return one.ordered(one.behind(select(walked).where(of_project)), walked).offset(many)


def keys_until(wanted: Wanted, led: Sequence[int], last: bytes | None) -> Select[Any]:
    """All keys as far as ``last`` among which is all that the filters mean, in no order; some may come twice."""
    walked = listing_terms.c.interaction_id
    several = listing_terms.c.term.in_([literal(one, BigInteger) for one in led])
    along = wanted.behind(select(walked.label("id")).where(several))
    waiting = select(_KEY).where(_WAITING, *wanted.conditions())
    if last is not None:
        end = literal(last, Key)
        along = along.where(walked <= end if wanted.order == "asc" else walked >= end)
        waiting = waiting.where(end >= _KEY if wanted.order == "asc" else end <= _KEY)
    return select(union_all(along, waiting).subquery("both").c.id)


def keys_by_filters(wanted: Wanted, led: Sequence[int], most: int) -> Select[Any] | None:
    """Keys among which is all that the filters mean, in no order; None where none leads to them.

    Some may come twice; where so many come, there may be more.
    """
    if wanted.is_direct:
        return _plain(replace(wanted, columns=[_KEY])).limit(most)
    return keys_until(wanted, led, None).limit(most) if led else None


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
    walk = wanted.within(select(walked.label("id")).where(listing_terms.c.term == given.c.term))
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
    return wanted.ordered(wanted.within(chosen.where(listing_terms.c.term == term)), walked)


def _lateral(wanted: Wanted, leading: Sequence[int], dialect: str) -> Select[Any]:
    """One walk, planned once, for each of any number of terms; what has several of them is told once."""
    given = _given(leading)
    walk = _along(wanted, given.c.term, dialect).lateral("walk")
    return wanted.ordered(select(*walk.c).distinct().select_from(given.join(walk, true())), walk.c[0])


def _given(leading: Sequence[int]) -> Any:
    listed = func.unnest(literal(list(leading), ARRAY(BigInteger)))
    return listed.table_valued(column("term", BigInteger), name="given").render_derived()
