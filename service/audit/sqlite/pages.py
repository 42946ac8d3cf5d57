"""A page without free text on SQLite."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, column, literal, select

from service.audit import paging
from service.audit.ordered_join import OrderedJoin
from service.audit.sqlite.repetition import Repetition, place_of_repetition
from service.audit.wanted import Wanted
from service.store.reports import Reading, Rows
from service.store.tables import Key, interactions, listing_terms

_KEY: Final = interactions.c.id
#: The parameter of a statement that is repeated for each term.
_TERM: Final = "term"


async def page(reading: Reading, wanted: Wanted, key_ids: Collection[bytes]) -> Rows:
    """A page; ``key_ids`` has the ids of the keys that the filters name."""
    return await reading.fetch(page_of(wanted, key_ids))


def page_of(wanted: Wanted, key_ids: Collection[bytes]) -> Select[Any] | Repetition:
    """The statement of a page."""
    if wanted.is_direct:
        return wanted.ordered(paging.plain(wanted))
    leading = wanted.leading(key_ids)
    keys = replace(wanted, columns=[_KEY])
    if len(leading) == 1:
        return paging.page_with(wanted, _along(keys, literal(leading[0], BigInteger)))
    told = place_of_repetition().columns(column("id", Key)).subquery("page")
    return Repetition(
        whole=paging.told_of(wanted, told),
        first=paging.waiting_keys(wanted),
        part=_along(keys, bindparam(_TERM, 0, type_=BigInteger)),
        name=_TERM,
        values=leading,
        ending=f"ORDER BY 1 {wanted.order.upper()} LIMIT {wanted.limit}",
    )


def _along(wanted: Wanted, term: ColumnElement[Any]) -> Select[Any]:
    walked = listing_terms.c.interaction_id
    chosen = select(*wanted.columns).select_from(OrderedJoin(listing_terms, interactions, walked == _KEY))
    found = chosen.where(paging.DERIVED, *wanted.conditions(), listing_terms.c.term == term)
    return wanted.ordered(wanted.within(found), walked)
