"""What a search finds on PostgreSQL: its index has the words of texts, but neither their order nor that of time.

Of rare words all texts are collected and put in order; common ones are met soon by who walks along all texts. Of a
phrase the index tells the texts that have all its words, a month at a time, and those are looked at one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from service.audit import paging
from service.audit.paging import Wanted
from service.audit.words import Search
from service.store.records import now
from service.store.reports import Plan, Reading
from service.wire import ids

Rows = list[Sequence[Any]]

#: Texts that are looked up one by one; of a word that more texts have, a walk along all texts soon finds a page.
_MOST_FOUND: Final = 5_000
#: Texts that have all words of a phrase within a month; beyond them a walk is taken as well.
_MOST_ALIKE: Final = 50_000
#: How many are looked up at a time, at least: filters may leave few.
_AT_ONCE: Final = 1_000
#: Bytes of a key.
_KEY: Final = 16


async def first(
    reading: Reading, wanted: Wanted, search: Search, *, looked_at: int | None = None
) -> Rows | None:
    """The first rows of what a search finds and the filters mean; None where a walk has them sooner.

    ``looked_at`` bounds how many texts are looked at for a phrase.
    """
    if search.has_phrases:
        return await _of_phrases(reading, wanted, search, looked_at)
    keys = await _collected(reading, wanted, search.for_postgres(), _MOST_FOUND)
    return None if keys is None else await _looked_up(reading, wanted, keys, None)


async def _of_phrases(reading: Reading, wanted: Wanted, search: Search, looked_at: int | None) -> Rows | None:
    found: Rows = []
    for part in _parts(wanted):
        keys = await _collected(reading, part, search.for_postgres(in_order=False), _MOST_ALIKE)
        if keys is None:
            return None
        if looked_at is not None:
            keys = keys[:looked_at]
            looked_at -= len(keys)
        rest = replace(wanted, limit=wanted.limit - len(found))
        found += await _looked_up(reading, rest, keys, search)
        if len(found) >= wanted.limit or looked_at == 0:
            break
    return found


async def _collected(reading: Reading, wanted: Wanted, query: str, most: int) -> list[bytes] | None:
    """The keys of all texts that match, in the order of the page; None where they are more than that."""
    await reading.plan(Plan.COLLECT)
    ((told,),) = await reading.fetch(paging.keys_in_postgres(wanted, query, most + 1))
    keys = [] if told is None else [told[place : place + _KEY] for place in range(0, len(told), _KEY)]
    if len(keys) > most:
        await reading.plan(Plan.WALK)
        return None
    return keys


async def _looked_up(reading: Reading, wanted: Wanted, keys: Sequence[bytes], search: Search | None) -> Rows:
    """The first of these that the filters mean, and the search as well; as many as are wanted."""
    await reading.plan(Plan.LOOK_UP)
    found: Rows = []
    start = 0
    while start < len(keys) and len(found) < wanted.limit:
        some = keys[start : start + max(wanted.limit, _AT_ONCE)]
        found += await reading.fetch(paging.among(wanted, some, search))
        start += len(some)
    return found[: wanted.limit]


def _parts(wanted: Wanted) -> Iterator[Wanted]:
    """What is wanted, the newest month first, the one before it, and the rest; all at once from the oldest on."""
    if wanted.order == "asc":
        yield wanted
        return
    highest = wanted.highest()
    newest = now() // 1000 if highest is None else ids.created_at(highest)
    month = _first_of_month(datetime.fromtimestamp(newest / 1000, UTC))
    before = _first_of_month(month - timedelta(days=1))
    edges = [None, *(int(moment.timestamp()) * 1_000_000 for moment in (month, before)), None]
    for until, since in pairwise(edges):
        yield wanted.between(since, until)


def _first_of_month(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
