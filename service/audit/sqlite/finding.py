"""Which way a search on SQLite is quicker: along the texts with the words, or through what the filters lead to.

What the filters lead to is looked at one by one where it is little; where it is rare and the words are not, it is
walked along. All else is found by a walk along the index, whose numbers are in the order of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Select

from service.audit import paging
from service.audit.sqlite import matching
from service.audit.stretches import Stretches
from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.reports import Reading, Rows
from service.store.tables import search_documents

_Found = list[Sequence[Any]]

#: What filters lead to is looked at where it is no more than this; and than that, where a prefix is searched for, whose
#: words the index puts together anew for each.
_MOST: Final = 1_000
_MOST_OF_PREFIX: Final = 2
#: Texts that match and are looked at whatever the filters mean.
_MOST_MATCHES: Final = 2_000
#: What filters lead to is walked along so many at a time, or so many where each time all words with a prefix are put
#: together.
_LED: Final = 1_000
_LED_OF_PREFIX: Final = 5_000


async def found(reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> Rows:
    """What a search finds, in the order of time."""
    few, told = await _first(reading, wanted, search, led)
    if told is not None:
        return told
    return await reading.fetch(matching.matching(wanted, search, few))


async def ranked(reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> Rows:
    """The newest matches, the best first."""
    narrow = replace(wanted, columns=[search_documents.c.number])
    few, told = await _first(reading, narrow, search, led)
    if told is None:
        return await reading.fetch(matching.ranked(wanted, search, few))
    numbers = [row[0] for row in told]
    return await reading.fetch(matching.ranked_with_numbers(wanted, search, numbers))


async def _first(
    reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]
) -> tuple[Select[Any] | None, _Found | None]:
    """What tells the few keys that the filters lead to, or the first rows of what is found and they mean.

    Some of the keys may be told twice. Neither, where the filters mean much and a walk is as good. ``led`` has the
    terms that lead to what they mean, if any do.
    """
    most = _MOST_OF_PREFIX if search.has_prefixes else _MOST
    few = paging.keys_by_filters(wanted, led, most + 1)
    if few is not None and len(await reading.fetch(few)) <= most:
        return few, None
    return None, await _led(reading, wanted, search, led)


async def _led(reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> _Found | None:
    stretches = Stretches(reading, wanted, led)
    if not await stretches.are_rare():
        return None
    ((matches,),) = await reading.fetch(matching.some(search, _MOST_MATCHES))
    if matches < _MOST_MATCHES:
        return None
    found: _Found = []
    part = wanted
    async for keys in stretches.keys(_LED_OF_PREFIX if search.has_prefixes else _LED):
        part = replace(part, limit=wanted.limit - len(found))
        numbers = [number for (number,) in await reading.fetch(matching.numbers_near(search, keys))]
        found += await reading.fetch(matching.with_numbers(part, numbers, keys))
        if len(found) >= wanted.limit:
            break
        part = replace(part, after=keys[-1])
    return found
