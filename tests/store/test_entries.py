"""What waits to be written keeps the order of each interaction, whatever has to be tried again."""

from __future__ import annotations

import asyncio

from service.store.entries import Entries, Entry
from service.store.event_log import INSERT_EVENTS

_LIMIT = 100


def entry(*keys: bytes) -> Entry:
    writes = tuple((INSERT_EVENTS, (key, b"x")) for key in keys)
    return Entry(writes, 1, 0.0, False, asyncio.get_running_loop().create_future())


async def test_what_is_put_behind_all_others_stays_before_what_follows_it() -> None:
    entries = Entries(_LIMIT, _LIMIT)
    first, other, shared, later = entry(b"a"), entry(b"c"), entry(b"a", b"b"), entry(b"b")
    for one in (first, other, shared, later):
        entries.add(one)
    assert entries.take(1, _LIMIT) == [first]
    entries.landed()
    entries.put_back([first], last=True)
    assert entries.rest() == [other, first, shared, later]
