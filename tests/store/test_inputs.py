from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest

from service.errors import StoreError
from service.store import inputs, statements
from service.store.backend import committed
from service.store.records import now
from service.store.regions import SHARED_FROM, Base, region_of
from service.store.statement import BatchStatement
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.support.stateless import Client
from tests.support.store import OpenStore, intent, literal, outcome, query

OTHER_PROJECT = UUID("00000000-0000-7000-8000-000000000002").bytes


async def sent(store: Store, request: bytes, **members: Any) -> bytes:
    """A request that upstream has not answered yet."""
    begun = intent(**members)
    await store.begin(begun, request, listed=True)
    return begun.id


async def said(store: Store, request: bytes, answer: bytes = b"{}", **members: Any) -> bytes:
    """A request with its answer."""
    key = await sent(store, request, **members)
    await store.finish(outcome(key), answer)
    return key


async def told(store: Store, turns: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """A conversation of a client without state; its requests by their keys."""
    return {await said(store, request, answer): request for request, answer in turns}


async def bases(url: str) -> dict[bytes, bytes | None]:
    """What each request with a row in ``inputs`` is stored without, by key."""
    rows = await query(url, "SELECT interaction_id, base_id FROM inputs ORDER BY interaction_id")
    return {plain(key): None if base is None else plain(base) for key, base in rows}


def plain(key: UUID | bytes) -> bytes:
    return key.bytes if isinstance(key, UUID) else bytes(key)


async def stored_bytes(url: str) -> int:
    """What all requests take."""
    ((total,),) = await query(url, "SELECT sum(length(body)) FROM payloads WHERE kind = 1")
    return int(total)


async def test_every_turn_is_stored_without_the_one_before(opened: OpenStore, store_url: str) -> None:
    requests = await told(opened.store, Client().turns(20))
    shared = await bases(store_url)
    known = list(shared)
    assert list(shared.values()) == [None, *known[:-1]]
    assert len(known) >= 17
    for key, request in requests.items():
        assert await opened.store.request_of(key) == request


async def test_storage_grows_with_what_was_said(opened: OpenStore, store_url: str) -> None:
    client = Client()
    await told(opened.store, client.turns(40))
    first = await stored_bytes(store_url)
    requests = await told(opened.store, [(client.ask(), client.answer()) for _ in range(40)])
    both = await stored_bytes(store_url)
    assert both < 2.2 * first
    assert both < 80 * 800
    assert sum(len(request) for request in requests.values()) > 30 * both


async def test_an_image_that_every_turn_sends_again_is_stored_once(opened: OpenStore, store_url: str) -> None:
    client = Client()
    image = client.image(300_000)
    requests = await told(opened.store, client.turns(10, image))
    assert await stored_bytes(store_url) < 1.1 * len(image["data"])
    for key, request in requests.items():
        assert image["data"].encode() in request
        assert await opened.store.request_of(key) == request


async def test_a_chain_comes_with_whole_requests(opened: OpenStore) -> None:
    client = Client()
    keys: list[bytes] = []
    requests: list[bytes] = []
    for _ in range(12):
        request = client.ask()
        keys.append(
            await said(opened.store, request, client.answer(), previous_id=keys[-1] if keys else None)
        )
        requests.append(request)
    keys.append(await said(opened.store, b'{"input":"plain"}', previous_id=keys[-1]))
    links = await opened.store.chain(DEFAULT_PROJECT, keys[-1])
    assert [link.id for link in links] == keys
    assert [link.request for link in links] == [*requests, b'{"input":"plain"}']
    assert all(link.response is not None for link in links)
    assert await opened.store.chain(OTHER_PROJECT, keys[-1]) == []


async def test_a_long_conversation_comes_back(opened: OpenStore) -> None:
    requests = await told(opened.store, Client().turns(120))
    key, request = requests.popitem()
    assert await opened.store.request_of(key) == request


async def test_branches_share_their_trunk(opened: OpenStore, store_url: str) -> None:
    client = Client()
    turns = client.turns(8)
    trunk = list(await told(opened.store, turns))
    steps = list(client.steps)
    branches: dict[bytes, bytes] = {}
    for seed in (2, 3):
        other = Client(seed)
        other.steps = list(steps)
        branches |= await told(opened.store, other.turns(3))
    shared = await bases(store_url)
    left, right = [key for key in branches if shared[key] == trunk[-1]]
    assert list(branches)[0::3] == [left, right]
    for key, request in branches.items():
        assert await opened.store.request_of(key) == request


async def test_a_conversation_that_was_changed_shares_what_did_not_change(
    opened: OpenStore, store_url: str
) -> None:
    client = Client()
    trunk = list(await told(opened.store, client.turns(9)))
    client.steps = [*client.steps[:-5], {"type": "user_input", "content": "another"}]
    changed = orjson.dumps({"input": client.steps})
    key = await said(opened.store, changed)
    # The last five steps are the last turn's and the answer before it.
    assert (await bases(store_url))[key] == trunk[-2]
    assert await opened.store.request_of(key) == changed


async def test_another_projects_list_is_nobodys_business(opened: OpenStore, store_url: str) -> None:
    request = Client().turns(9)[-1][0]
    own = await said(opened.store, request)
    foreign = await said(opened.store, request, project_id=OTHER_PROJECT)
    assert await bases(store_url) == {own: None, foreign: None}


async def test_a_foreign_row_with_the_same_digest_is_no_base(opened: OpenStore, store_url: str) -> None:
    request = Client().turns(9)[-1][0]
    await said(opened.store, request)
    await query(store_url, f"UPDATE interactions SET project_id = {literal(store_url, OTHER_PROJECT)}")
    key = await said(opened.store, request)
    assert (await bases(store_url))[key] is None


async def test_repetitions_stand_beside_each_other(opened: OpenStore, store_url: str) -> None:
    client = Client()
    first, *_, (request, answer) = client.turns(9)
    keys = [await said(opened.store, request, answer) for _ in range(20)]
    shared = await bases(store_url)
    assert set(shared.values()) == {None, keys[0]}
    assert await query(store_url, "SELECT count(*) FROM inputs WHERE length(digest) > 0") == [(1,)]
    for key in keys:
        assert await opened.store.request_of(key) == request
    following = await said(opened.store, client.ask())
    assert (await bases(store_url))[following] == keys[0]
    assert await said(opened.store, first[0]) not in await bases(store_url)


async def test_what_upstream_has_not_answered_is_a_base_only_when_it_has_none(
    opened: OpenStore, store_url: str
) -> None:
    client = Client()
    *_, (one, _), (two, _), (three, _) = client.turns(9)
    first = await sent(opened.store, one)
    second = await sent(opened.store, two)
    third = await sent(opened.store, three)
    assert await bases(store_url) == {first: None, second: first, third: first}
    await opened.store.finish(outcome(second), b"{}")
    fourth = await sent(opened.store, three)
    assert (await bases(store_url))[fourth] == second


async def test_a_deleted_request_is_no_base_but_stays_one(opened: OpenStore, store_url: str) -> None:
    client = Client()
    *_, (one, _), (two, _), (three, _) = client.turns(9)
    first, second = await said(opened.store, one), await said(opened.store, two)
    await opened.store.delete(first, now(), None)
    assert await opened.store.find(DEFAULT_PROJECT, first) is None
    assert await opened.store.request_of(second) == two
    again = await said(opened.store, one)
    assert (await bases(store_url))[again] is None
    await opened.store.delete(again, now(), None)
    await opened.store.delete(second, now(), None)
    assert await bases(store_url) == {}
    assert await query(store_url, "SELECT count(*) FROM payloads") == [(0,)]
    third = await said(opened.store, three)
    assert await bases(store_url) == {third: None}


@pytest.mark.parametrize(
    ("request_body", "listed"),
    [
        (b'{"input":"' + b"x" * 5000 + b'"}', True),
        (b'{"input":["' + b"x" * 1000 + b'"]}', True),
        (b'{"input":["' + b"x" * 5000 + b'"]}', False),
        (b"\xff" * 5000, True),
    ],
)
async def test_what_is_short_or_no_list_has_no_row(
    opened: OpenStore, store_url: str, request_body: bytes, listed: bool
) -> None:
    begun = intent()
    await opened.store.begin(begun, request_body, listed=listed)
    assert await bases(store_url) == {}
    assert await opened.store.request_of(begun.id) == request_body


async def test_a_large_request_is_shared_too(opened: OpenStore, store_url: str) -> None:
    first = b'{"input":["' + b"x" * 1_000_000 + b'"]}'
    then = first[:-2] + b',"y"]}'
    one, two = await said(opened.store, first), await said(opened.store, then)
    assert await bases(store_url) == {one: None, two: one}
    assert await opened.store.request_of(two) == then


async def test_the_size_of_a_request_is_that_of_the_whole(opened: OpenStore, store_url: str) -> None:
    requests = await told(opened.store, Client().turns(9))
    sizes = await query(store_url, "SELECT request_bytes FROM interactions ORDER BY id")
    assert sizes == [(len(request),) for request in requests.values()]


async def test_a_missing_base_is_an_error_that_names_the_request(opened: OpenStore, store_url: str) -> None:
    keys = list(await told(opened.store, Client().turns(9)))
    gone = literal(store_url, keys[-3])
    await query(store_url, f"DELETE FROM payloads WHERE interaction_id = {gone} AND kind = 1")
    assert await opened.store.request_of(keys[-3]) is None
    assert await opened.store.request_of(keys[-4]) is not None
    for key in keys[-2:]:
        with pytest.raises(StoreError, match=ids.to_text(key)):
            await opened.store.request_of(key)
        with pytest.raises(StoreError, match=ids.to_text(key)):
            await opened.store.chain(DEFAULT_PROJECT, key)


async def test_bases_in_a_circle_are_an_error(opened: OpenStore, store_url: str) -> None:
    keys = list(await told(opened.store, Client().turns(9)))
    tip = literal(store_url, keys[-1])
    await query(store_url, f"UPDATE inputs SET base_id = {tip} WHERE base_id IS NULL")
    with pytest.raises(StoreError, match=ids.to_text(keys[-1])):
        await opened.store.request_of(keys[-1])


async def test_the_statements_may_be_repeated_without_harm(opened: OpenStore, store_url: str) -> None:
    *_, (one, _), (two, _) = Client().turns(9)
    first, second = await said(opened.store, one), intent()
    region = region_of(DEFAULT_PROJECT, two)
    assert region is not None
    before = region_of(DEFAULT_PROJECT, one)
    assert before is not None
    base = Base(first, before.size)
    batches: list[list[tuple[BatchStatement, list[tuple[Any, ...]]]]] = [
        [
            (statements.INSERT_INTENT, [second.row(len(two))]),
            (statements.INSERT_REQUEST, [(second.id, region.without(base, two))]),
            (inputs.INSERT_INPUT, [region.row(second.id, base)]),
        ],
        [
            (inputs.REPLACE_REQUEST, [(second.id, two)]),
            (inputs.FORGET_BASE, [(second.id, region.digest)]),
        ],
    ]
    for batch, expected in zip(batches, (first, None), strict=True):
        for _ in range(2):
            await committed(opened.backend, batch)
            assert await bases(store_url) == {first: None, second.id: expected}
            assert await opened.store.request_of(second.id) == two


async def test_a_request_that_was_erased_does_not_come_back_whole(opened: OpenStore, store_url: str) -> None:
    request = Client().turns(9)[-1][0]
    key = await said(opened.store, request)
    await opened.store.delete(key, now(), None)
    await committed(
        opened.backend, [(inputs.REPLACE_REQUEST, [(key, request)]), (inputs.FORGET_BASE, [(key, b"x" * 16)])]
    )
    assert await opened.store.request_of(key) is None
    assert await bases(store_url) == {}
    assert len(request) > SHARED_FROM
