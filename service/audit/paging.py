"""The parts of the statements of a page, which find its interactions soonest whatever the filters ask for.

What has been derived from is walked along the terms that lead to it (:mod:`service.audit.terms`), the rest along the
index of what still waits: each interaction is in exactly one of the two, in any snapshot. One whose usage came later
may have terms of two buckets of a number; a page tells it once. A few filters have an index of their own, and free text
has the documents.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import BigInteger, FromClause, Select, literal, select, text, union_all

from service.audit import terms
from service.audit.ordered_join import OrderedJoin
from service.audit.wanted import Wanted
from service.store.tables import Key, interactions, listing_terms

#: The condition of the index, word for word, and its opposite.
_WAITING: Final = text("derived_state IN (0, 3)")
DERIVED: Final = text("derived_state NOT IN (0, 3)")
_KEY: Final = interactions.c.id


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
    parts = (waiting_keys(wanted), wanted.ordered(wanted.behind(along), walked))
    both = union_all(*(select(*part.subquery().c) for part in parts)).subquery("both")
    return wanted.ordered(select(*both.c), both.c[0])


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
        return plain(replace(wanted, columns=[_KEY])).limit(most)
    return keys_until(wanted, led, None).limit(most) if led else None


def told_of(wanted: Wanted, page: FromClause) -> Select[Any]:
    """What is told of the rows of a page: looked up once it is known which they are."""
    told = select(*wanted.columns).select_from(OrderedJoin(page, interactions, page.c[0] == _KEY))
    return told.order_by(_KEY.asc() if wanted.order == "asc" else _KEY.desc())


def page_with(wanted: Wanted, walk: Select[Any]) -> Select[Any]:
    """A page of what a walk along terms finds, and of what waits."""
    both = union_all(*(select(*part.subquery().c) for part in (waiting_keys(wanted), walk))).subquery("both")
    return told_of(wanted, wanted.ordered(select(*both.c), both.c[0]).subquery("page"))


def waiting_keys(wanted: Wanted) -> Select[Any]:
    """The keys of the first that wait to be derived from."""
    return wanted.ordered(select(_KEY).where(*wanted.conditions(), _WAITING))


def plain(wanted: Wanted) -> Select[Any]:
    """All that the filters mean, by the index that the planner takes."""
    return select(*wanted.columns).where(*wanted.conditions())
