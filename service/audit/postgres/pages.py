"""A page without free text on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    column,
    func,
    literal,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from service.audit import paging
from service.audit.wanted import Wanted
from service.store.reports import Plan, Reading, Rows
from service.store.tables import interactions, listing_terms

_KEY: Final = interactions.c.id
#: From how many terms on the keys are found first, and for how many pages at a time.
_MANY_TERMS: Final = 5
_PAGES_AHEAD: Final = 4


async def page(reading: Reading, wanted: Wanted, key_ids: Collection[bytes]) -> Rows:
    """A page; ``key_ids`` has the ids of the keys that the filters name."""
    # The index of a filter knows no order: to walk in order until a page is full may be to look at everything.
    await reading.plan(Plan.COLLECT if wanted.is_direct else Plan.WALK)
    hopeful = _hopeful_page_of(wanted, key_ids)
    rows = None if hopeful is None else _whole_page(wanted, await reading.fetch(hopeful))
    return await reading.fetch(page_of(wanted, key_ids)) if rows is None else rows


def page_of(wanted: Wanted, key_ids: Collection[bytes]) -> Select[Any]:
    """The statement of a page, whatever it takes."""
    if wanted.is_direct:
        return wanted.ordered(paging.plain(wanted))
    leading = wanted.leading(key_ids)
    keys = replace(wanted, columns=[_KEY])
    one = literal(leading[0], BigInteger)
    return paging.page_with(wanted, _lateral(keys, leading) if len(leading) > 1 else _along(keys, one))


def _hopeful_page_of(wanted: Wanted, key_ids: Collection[bytes]) -> Select[Any] | None:
    """A page of many terms, out of the next few pages' worth of keys; None where that gains nothing.

    The keys are found in ``listing_terms`` alone, and what they are is looked up for those few. Each row ends with how
    many keys there were and which was the last; without any, one row has nothing but that. :func:`_whole_page` tells
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
        .where(paging.DERIVED, *wanted.conditions())
    )
    parts = (paging.waiting_keys(wanted), found)
    both = union_all(*(select(*part.subquery().c) for part in parts)).subquery("both")
    page = keys.ordered(select(*both.c), both.c[0]).subquery("page")
    edge = candidates.c.id
    last = select(edge).order_by(edge.desc() if wanted.order == "asc" else edge.asc()).limit(1)
    many = select(func.count()).select_from(candidates).scalar_subquery()
    considered = select(many.label("many"), last.scalar_subquery().label("last")).subquery("considered")
    found_rows = page.join(interactions, page.c[0] == _KEY)
    chosen = select(*wanted.columns, *considered.c).select_from(considered.outerjoin(found_rows, true()))
    return chosen.order_by(_KEY.asc() if wanted.order == "asc" else _KEY.desc())


def _whole_page(wanted: Wanted, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]] | None:
    """The rows of a hopeful page, if nothing that was not looked at can stand between them."""
    considered, last = rows[0][-2:]
    found = [row[:-2] for row in rows if row[0] is not None]
    if considered < _PAGES_AHEAD * wanted.limit:
        return found
    if len(found) < wanted.limit:
        return None
    lowest = found[-1][0]
    return found if (lowest <= last if wanted.order == "asc" else lowest >= last) else None


def _along(wanted: Wanted, term: ColumnElement[Any]) -> Select[Any]:
    walked = listing_terms.c.interaction_id
    # The planner knows neither how rare a term is nor that it says what the conditions say, and may look through all
    # interactions for them: the offset has it look each one up.
    found = select(*wanted.columns).where(paging.DERIVED, *wanted.conditions(), walked == _KEY)
    one = found.correlate(listing_terms).offset(literal_column("0", BigInteger)).lateral("one")
    chosen = select(*one.c).select_from(listing_terms.join(one, true()))
    return wanted.ordered(wanted.within(chosen.where(listing_terms.c.term == term)), walked)


def _lateral(wanted: Wanted, leading: Sequence[int]) -> Select[Any]:
    """One walk, planned once, for each of any number of terms; what has several of them is told once."""
    given = _given(leading)
    walk = _along(wanted, given.c.term).lateral("walk")
    return wanted.ordered(select(*walk.c).distinct().select_from(given.join(walk, true())), walk.c[0])


def _given(leading: Sequence[int]) -> Any:
    listed = func.unnest(literal(list(leading), ARRAY(BigInteger)))
    return listed.table_valued(column("term", BigInteger), name="given").render_derived()
