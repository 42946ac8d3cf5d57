"""Which way a search on PostgreSQL is quicker: along the texts with the words, or through what the filters lead to.

What the filters lead to is looked at one by one where it is little. Otherwise: the index has the words of texts, but
neither their order nor that of time. Of rare words all texts are collected and put in order; common ones are met soon
by who walks along what the filters lead to, or along all texts where that is much of them. Of a phrase the index tells
the texts that have all its words, a month at a time, and those are looked at one after another; where the filters lead
to few in that month, only those that both have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Select

from service.audit import paging
from service.audit.postgres import matching
from service.audit.postgres.expression import tsquery
from service.audit.stretches import Stretches
from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.records import now
from service.store.reports import Plan, Reading, Rows
from service.store.tables import interactions
from service.wire import ids

_Found = list[Sequence[Any]]

#: What filters lead to is walked along so many at a time.
_LED: Final = 1_000
#: How many of the best are enough where they are hard to find.
_ENOUGH_RANKED: Final = 50
#: Texts that are looked up one by one; of a word that more texts have, a walk along all texts soon finds a page.
_MOST_FOUND: Final = 5_000
#: Texts that have all words of a phrase within a month; beyond them a walk is taken as well.
_MOST_ALIKE: Final = 50_000
#: What filters lead to within a month; beyond them it takes less to meet all texts with the words of a phrase.
_MOST_OF_MONTH: Final = 8_000
#: How many are looked up at a time: filters may leave few.
_AT_ONCE: Final = 1_000
#: How many of a walk are looked up at first, and after how many more than enough are not waited for.
_FIRST_LOOK: Final = 128
_LONG_WALK: Final = 1_000
#: A word is common that so much of the first texts have; then so many times as many of them are looked at as promise
#: enough, and no more than so many.
_COMMON: Final = 0.02
_TIMES: Final = 4
_MOST_NEAR: Final = 6_000
#: How many texts that have the words of a phrase are looked at for more than is enough.
_LONG: Final = 2_000
#: Bytes of a key.
_KEY: Final = 16
#: The last millisecond that the calendar has.
_LAST: Final = int(datetime.max.replace(tzinfo=UTC).timestamp() * 1000) - 1000


async def found(reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> Rows:
    """What a search finds, in the order of time."""
    told = await _first(reading, wanted, search, led)
    if told is not None:
        return told
    await reading.plan(Plan.WALK)
    return await reading.fetch(matching.matching(wanted, search))


async def ranked(reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> Rows:
    """The newest matches, the best first."""
    narrow = replace(wanted, columns=[interactions.c.id])
    # What the first page has found is found again, all of it.
    enough = _ENOUGH_RANKED if wanted.oldest is None else None
    told = await _first(reading, narrow, search, led, enough=enough)
    keys = None if told is None else [row[0] for row in told]
    await reading.plan(Plan.WALK if keys is None else Plan.LOOK_UP)
    return await reading.fetch(matching.ranked(wanted, search, keys))


async def _first(
    reading: Reading, wanted: Wanted, search: Search, led: Sequence[int], *, enough: int | None = None
) -> _Found | None:
    """The first rows of what a search finds and the filters mean; None where a walk has them sooner.

    ``led`` has the terms that lead to what the filters mean, if any do. So many are ``enough`` when to find them took
    long.
    """
    least = wanted.limit if enough is None else enough
    few = await _few(reading, wanted, led)
    if few is not None:
        return await _among(reading, wanted, few, least, partial(matching.among, search=search))
    stretches = Stretches(reading, wanted, led)
    rare = await stretches.are_rare()
    if rare:
        soon = await _walked(reading, wanted, search, stretches, least)
    else:
        soon = await _near(reading, wanted, search, least if led else wanted.limit)
    if soon is not None:
        return soon
    found: _Found = []
    phrases = search.has_phrases
    # To look at a filter first is to look at each interaction, which is worth it where one leads to few of them.
    looked_up = matching.among_with_common_words if led else matching.among
    chosen = partial(looked_up, search=search) if phrases else matching.among
    for part in _parts(wanted) if phrases else (wanted,):
        rest = replace(wanted, limit=wanted.limit - len(found))
        missing = (least if phrases else wanted.limit) - len(found)
        both = await _both(reading, part, search, led) if phrases and rare else None
        if both is not None:
            found += await _among(reading, rest, both, missing, matching.among)
        else:
            keys = await _texts(reading, part, search)
            if keys is None:
                return (
                    await _walked(reading, wanted, search, stretches, least, patient=True) if rare else None
                )
            if rare and len(keys) > _AT_ONCE:
                keys = await Stretches(reading, part, led).among(keys)
            found += await _among(reading, rest, keys, missing, chosen)
        if len(found) >= least:
            return found
    return found


async def _both(reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> list[bytes] | None:
    """What matches of what the filters lead to, in the order of the page; None where they lead to much."""
    few = await Stretches(reading, wanted, led).all(_MOST_OF_MONTH)
    if not few:
        return few
    return await _collected(reading, wanted, tsquery(search), len(few), few)


async def _among(
    reading: Reading,
    wanted: Wanted,
    keys: Sequence[bytes],
    enough: int,
    chosen: Callable[[Wanted, Sequence[bytes]], Select[Any]],
) -> _Found:
    """What is chosen of these, in their order; so many are ``enough`` when to find them took long."""
    await reading.plan(Plan.LOOK_UP)
    found: _Found = []
    for start in range(0, len(keys), _AT_ONCE):
        rest = replace(wanted, limit=wanted.limit - len(found))
        found += await reading.fetch(chosen(rest, keys[start : start + _AT_ONCE]))
        if len(found) >= (wanted.limit if start + _AT_ONCE < _LONG else enough):
            break
    return found


async def _near(reading: Reading, wanted: Wanted, search: Search, enough: int) -> _Found | None:
    """What the first texts have, whosever they are; None where it is not enough."""
    await reading.plan(Plan.WALK)
    ((seen, matches),) = await reading.fetch(matching.matches_among_first(wanted, search, _FIRST_LOOK))
    if matches <= _COMMON * seen:
        return None
    ahead = min(_MOST_NEAR, _TIMES * wanted.limit * seen // matches)
    found = list(await reading.fetch(matching.first(wanted, search, ahead)))
    return found if len(found) >= enough else None


async def _few(reading: Reading, wanted: Wanted, led: Sequence[int]) -> list[bytes] | None:
    """The keys that the filters lead to, in the order of the page; None where they are many."""
    chosen = paging.keys_by_filters(wanted, led, _MOST_FOUND + 1)
    if chosen is None:
        return None
    await reading.plan(Plan.COLLECT if wanted.is_direct else Plan.LOOK_UP)
    keys = [row[0] for row in await reading.fetch(chosen)]
    return None if len(keys) > _MOST_FOUND else sorted(set(keys), reverse=wanted.order != "asc")


async def _walked(
    reading: Reading,
    wanted: Wanted,
    search: Search,
    stretches: Stretches,
    enough: int,
    *,
    patient: bool = False,
) -> _Found | None:
    """What is found along what the filters lead to; None where that promises to take long, unless ``patient``.

    So many are ``enough`` when to find them took long.
    """
    found: _Found = []
    looked_at = 0
    async for keys in stretches.keys(_LED):
        await reading.plan(Plan.LOOK_UP)
        start = 0
        while start < len(keys):
            rest = replace(wanted, limit=wanted.limit - len(found))
            some = keys[start : start + _likely(rest.limit, len(found), looked_at)]
            found += await reading.fetch(matching.among_with_common_words(rest, some, search))
            start += len(some)
            looked_at += len(some)
            if len(found) >= (wanted.limit if looked_at < _LONG_WALK else enough):
                return found
            if not patient and len(found) * _LONG < looked_at * enough:
                return None
    return found


def _likely(wanted: int, found: int, looked_at: int) -> int:
    """How many to look at for so many more, after what was found among those before."""
    likely = wanted * looked_at // found if found else looked_at
    return min(_AT_ONCE, max(_FIRST_LOOK, likely))


async def _texts(reading: Reading, wanted: Wanted, search: Search) -> list[bytes] | None:
    """The keys of all texts that match, or that have the words of phrases; None where they are too many."""
    phrases = search.has_phrases
    query = tsquery(search, in_order=not phrases)
    return await _collected(reading, wanted, query, _MOST_ALIKE if phrases else _MOST_FOUND)


async def _collected(
    reading: Reading, wanted: Wanted, query: str, most: int, among: Sequence[bytes] | None = None
) -> list[bytes] | None:
    """The keys of all texts that match, in the order of the page; None where they are more than that."""
    await reading.plan(Plan.COLLECT)
    ((told,),) = await reading.fetch(matching.all_keys(wanted, query, most + 1, among))
    keys = [] if told is None else [told[place : place + _KEY] for place in range(0, len(told), _KEY)]
    if len(keys) > most:
        await reading.plan(Plan.WALK)
        return None
    return keys


def _parts(wanted: Wanted) -> Iterator[Wanted]:
    """What is wanted, the newest month first, the one before it, and the rest; all at once from the oldest on."""
    if wanted.order == "asc":
        yield wanted
        return
    highest = wanted.highest()
    newest = now() // 1000 if highest is None else min(ids.created_at(highest), _LAST)
    month = _first_of_month(datetime.fromtimestamp(newest / 1000, UTC))
    before = _first_of_month(month - timedelta(days=1))
    edges = [None, *(max(0, int(moment.timestamp())) * 1_000_000 for moment in (month, before)), None]
    for until, since in pairwise(edges):
        part = wanted.between(since, until)
        if not part.is_empty:
            yield part


def _first_of_month(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
