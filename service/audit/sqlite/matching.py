"""The statements of a search on SQLite: what has the words, in the order of time or of how well it matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    TableValuedAlias,
    func,
    literal,
    literal_column,
    select,
)

from service.audit.best_first import best_first
from service.audit.ordered_join import OrderedJoin
from service.audit.sqlite.documents import MILLISECONDS, NUMBER_BITS, first_number, index
from service.audit.sqlite.expression import fts5
from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.tables import Key, interactions, search_documents
from service.wire import ids

_KEY: Final = interactions.c.id
_NUMBERS_PER_MILLISECOND: Final = 1 << NUMBER_BITS


def matching(wanted: Wanted, search: Search, few: Select[Any] | None = None) -> Select[Any]:
    """A page of what a search finds; ``few`` has the keys among which it is, None where they are many.

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


def some(search: Search, most: int) -> Select[Any]:
    """How many texts match, whosever they are, as far as ``most``."""
    some = select(index.c.rowid).where(_in_index(search)).limit(most).subquery("some")
    return select(func.count()).select_from(some)


def numbers_near(search: Search, keys: Sequence[bytes]) -> Select[Any]:
    """The numbers of texts that match and came in the same milliseconds as some of these interactions.

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
    matched: ColumnElement[bool] = index.c.search_index.op("MATCH", is_comparison=True)(literal(fts5(search)))
    return matched


def ranked(wanted: Wanted, search: Search, few: Select[Any] | None = None) -> Select[Any]:
    """The best of the newest matches; ``wanted`` says how many are looked at.

    ``few`` has the keys among which they are, None where those are many.
    """
    found = wanted.ordered(
        _matches(wanted, search, few, *wanted.columns, index.c.rank.label("ranked")), index.c.rowid
    ).subquery("found")
    return best_first(found)


def ranked_with_numbers(wanted: Wanted, search: Search, numbers: Sequence[int]) -> Select[Any]:
    """The best of the texts with these numbers, all of which match."""
    given = _listed(numbers)
    number = index.c.rowid
    # Said of the number itself, the index would be asked anew for each.
    these = (number + literal_column("0", BigInteger)).in_(select(given.c.value))
    bounds = (number >= min(numbers, default=0), number <= max(numbers, default=0))
    source = OrderedJoin(index, search_documents, search_documents.c.number == number)
    source = OrderedJoin(source, interactions, search_documents.c.interaction_id == _KEY)
    ranked = select(*wanted.columns, index.c.rank.label("ranked")).select_from(source)
    found = ranked.where(_in_index(search), these, *bounds).subquery("found")
    return best_first(found)
