from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import StoreError
from service.store.regions import PREFIXES, SHARED_FROM, Base, Region, Stored, region_of, whole_requests
from service.wire import ids
from tests.support.stateless import Client

PROJECT, OTHER = ids.mint(), ids.mint()


def region(request: bytes, project: bytes = PROJECT) -> Region:
    found = region_of(project, request)
    assert found is not None
    return found


def stored_in_turn(requests: list[bytes]) -> dict[bytes, Stored]:
    """Each request as it is stored when the one before it that is more than a repetition is its base."""
    stored: dict[bytes, Stored] = {}
    before: tuple[bytes, Region] | None = None
    for request in requests:
        key, own = ids.mint(), region(request)
        base = None
        if before is not None and before[1].digest in own.prefixes:
            base = Base(before[0], own.prefixes[before[1].digest])
        body = own.without(base, request) if base else request
        stored[key] = Stored(PROJECT, *own.row(key, base)[1:], body)
        if stored[key].digest:
            before = (key, own)
    return stored


def conversation(count: int, client: Client | None = None) -> list[bytes]:
    """The requests of a conversation that are long enough to be shared."""
    requests = [request for request, _ in (client or Client()).turns(count + 2)]
    return [request for request in requests if region_of(PROJECT, request)]


def test_every_turn_begins_with_the_one_before() -> None:
    requests = conversation(20)
    for earlier, later in pairwise(requests):
        assert region(later).prefixes[region(earlier).digest] == region(earlier).size


def test_a_region_is_the_bytes_of_the_list() -> None:
    request = conversation(3)[-1]
    found = region(request)
    items = json.loads(request)["input"]
    assert json.loads(b"[" + request[found.start : found.start + found.size] + b"]") == items


def test_what_stands_around_the_list_does_not_matter() -> None:
    list_text = json.dumps(Client().turns(1)[0][0].decode() * 5)
    one = f'{{"model":"a","input":[{list_text}]}}'.encode()
    two = f'{{ "input" : [ {list_text} ],\n"model":"b","tools":[]}}'.encode()
    assert region(one).digest == region(two).digest


def test_another_project_has_other_digests() -> None:
    request = conversation(2)[-1]
    assert not set(region(request).prefixes) & set(region(request, OTHER).prefixes)


@pytest.mark.parametrize(
    "request_body",
    [
        b'{"input":"' + b"x" * 5000 + b'"}',
        b'{"input":["' + b"x" * (SHARED_FROM - 3) + b'"]}',
        b'{"input":["a","b"],"system_instruction":"' + b"x" * 5000 + b'"}',
        b"x" * 5000,
    ],
)
def test_what_is_short_or_no_list_is_not_shared(request_body: bytes) -> None:
    assert region_of(PROJECT, request_body) is None


def test_a_list_of_one_element_is_shared_when_it_is_long() -> None:
    assert region(b'{"input":["' + b"x" * SHARED_FROM + b'"]}').size == SHARED_FROM + 2


def test_the_prefixes_looked_for_are_few_and_the_longest() -> None:
    element = b'"' + b"x" * 100 + b'"'
    found = region(b'{"input":[' + b",".join([element] * 500) + b"]}")
    sizes = [102 * count + count - 1 for count in range(501 - PREFIXES, 501)]
    assert list(found.prefixes.values()) == sizes


def test_requests_come_back_as_they_were_sent() -> None:
    requests = conversation(20)
    stored = stored_in_turn(requests)
    assert sum(one.base_id is not None for one in stored.values()) == len(requests) - 1
    for key, request in zip(stored, requests, strict=True):
        assert whole_requests(stored, [key]) == {key: request}


def test_many_requests_come_back_from_one_look() -> None:
    one, two = conversation(9, Client(1)), conversation(7, Client(2))
    stored = stored_in_turn(one) | stored_in_turn(two)
    assert whole_requests(stored, stored) == dict(zip(stored, one + two, strict=True))


def test_a_request_that_only_repeats_has_no_digest() -> None:
    request = conversation(3)[-1]
    stored = stored_in_turn([request, request])
    first, second = stored.values()
    assert (second.digest, second.base_id is not None) == (b"", True)
    assert first.digest
    assert list(whole_requests(stored, stored).values()) == [request, request]


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8), st.data())
def test_any_list_that_goes_on_comes_back(items: list[str], data: st.DataObject) -> None:
    spacing = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    escaped = data.draw(st.booleans())
    items = ["x" * SHARED_FROM, *items]
    lengths = sorted(data.draw(st.lists(st.integers(1, len(items)), min_size=1, max_size=5)))
    requests = [
        json.dumps(
            {"store": False, "input": items[:length], "tools": ["ü"]},
            ensure_ascii=escaped,
            separators=spacing,
        ).encode()
        for length in lengths
    ]
    stored = stored_in_turn(requests)
    assert whole_requests(stored, stored) == dict(zip(stored, requests, strict=True))


def test_what_is_not_stored_is_left_out() -> None:
    assert whole_requests({}, [ids.mint()]) == {}


def damaged(stored: dict[bytes, Stored]) -> list[dict[bytes, Stored]]:
    """The same rows, each time with something wrong below the last request."""
    keys = list(stored)
    middle, tip = keys[-2], keys[-1]
    request = stored[middle]
    start = (request.start or 0) + 10
    flipped = request.body[:start] + bytes([request.body[start] ^ 1]) + request.body[start + 1 :]
    return [
        {key: one for key, one in stored.items() if key != middle},
        {key: one for key, one in stored.items() if key != keys[0]},
        stored | {middle: request._replace(body=flipped)},
        stored | {middle: request._replace(body=request.body[:-200])},
        stored | {middle: request._replace(base_id=tip)},
        stored | {middle: request._replace(base_id=middle)},
        stored | {middle: request._replace(base_id=None)},
        stored | {middle: request._replace(size=(request.size or 0) + 7)},
        stored | {middle: request._replace(size=10**9)},
        stored | {middle: request._replace(start=None, size=None, digest=None, base_id=None)},
        stored | {tip: stored[tip]._replace(project_id=OTHER)},
        stored | {tip: stored[tip]._replace(start=10**6)},
    ]


@pytest.mark.parametrize("damage", range(12))
def test_damage_is_an_error_that_names_the_request_and_never_other_bytes(damage: int) -> None:
    stored = stored_in_turn(conversation(4))
    tip = list(stored)[-1]
    with pytest.raises(StoreError, match=ids.to_text(tip)):
        whole_requests(damaged(stored)[damage], [tip])
