"""What waits to be written keeps the order of each interaction, whatever has to be tried again."""

from __future__ import annotations

import asyncio

from service.store.entries import Entries, Entry, Taken, measured
from service.store.event_log import INSERT_EVENTS

_LIMIT = 100


def entry(*keys: bytes, last: bool = False) -> Entry:
    writes = tuple((INSERT_EVENTS, (key, b"x")) for key in keys)
    touched, _ = measured(writes)
    return Entry(writes, touched, 1, 0.0, False, asyncio.get_running_loop().create_future(), last)


def taken(entries: Entries, most: int) -> Taken:
    batch = entries.take(most, _LIMIT)
    assert batch is not None
    return batch


async def test_what_is_put_behind_all_others_stays_before_what_follows_it() -> None:
    entries = Entries(_LIMIT, _LIMIT)
    first, other, shared, later = entry(b"a"), entry(b"c"), entry(b"a", b"b"), entry(b"b")
    for one in (first, other, shared, later):
        entries.add(one)
    batch = taken(entries, 1)
    assert batch.entries == [first]
    entries.put_back([first], last=True)
    entries.landed(batch)
    assert entries.rest() == [other, first, shared, later]


async def test_what_touches_an_interaction_that_is_being_written_waits_for_it() -> None:
    entries = Entries(_LIMIT, _LIMIT)
    first, other, later, last = entry(b"a"), entry(b"c"), entry(b"a", b"b"), entry(b"d")
    for one in (first, other, later, last):
        entries.add(one)
    batch, beside = taken(entries, 1), taken(entries, _LIMIT)
    assert (batch.entries, beside.entries) == ([first], [other])
    assert entries.take(_LIMIT, _LIMIT) is None
    entries.landed(beside)
    assert entries.take(_LIMIT, _LIMIT) is None
    entries.landed(batch)
    assert taken(entries, _LIMIT).entries == [later, last]
    assert entries.busy


async def test_what_is_to_be_last_waits_for_everything_before_it() -> None:
    entries = Entries(_LIMIT, _LIMIT)
    first, before, last, behind = entry(b"a"), entry(b"b"), entry(b"c", last=True), entry(b"d")
    for one in (first, before, last, behind):
        entries.add(one)
    batch, beside = taken(entries, 1), taken(entries, _LIMIT)
    assert (batch.entries, beside.entries) == ([first], [before])
    entries.landed(beside)
    assert entries.take(_LIMIT, _LIMIT) is None
    entries.landed(batch)
    assert taken(entries, _LIMIT).entries == [last, behind]


async def test_what_is_to_be_last_stays_behind_what_is_tried_again() -> None:
    entries = Entries(_LIMIT, _LIMIT)
    first, last, behind = entry(b"a"), entry(b"c", last=True), entry(b"d")
    for one in (first, last, behind):
        entries.add(one)
    batch = taken(entries, _LIMIT)
    assert batch.entries == [first]
    entries.put_back([first], last=True)
    entries.landed(batch)
    assert entries.rest() == [behind, first, last]
