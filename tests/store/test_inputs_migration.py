"""Requests that are stored without what others have are whole in the schema before."""

from __future__ import annotations

from typing import Any

from service.store import migrate
from service.store.codec import Codec
from service.store.records import now
from tests.store.test_inputs import bases, plain, said, told
from tests.support.stateless import Client
from tests.support.store import literal, open_store, query


async def stored(url: str) -> dict[bytes, bytes]:
    """All requests as they lie in the database."""
    codec = Codec()
    rows: list[tuple[Any, ...]] = await query(
        url, "SELECT interaction_id, codec, size, body FROM payloads WHERE kind = 1"
    )
    return {plain(key): codec.unpack(number, size, bytes(body)) for key, number, size, body in rows}


async def test_requests_go_down_whole_and_come_up_whole(database_url: str) -> None:
    await migrate.upgrade(database_url)
    client, other = Client(1), Client(2)
    async with open_store(database_url) as opened:
        requests = await told(opened.store, client.turns(12, client.image(50_000)))
        requests |= await told(opened.store, other.turns(9))
        steps = list(other.steps)
        requests |= await told(opened.store, [(other.ask(), other.answer()) for _ in range(3)])
        other.steps = [*steps, {"type": "user_input", "content": "a branch: ü€😀"}]
        requests |= await told(opened.store, [(other.ask(), b"{}"), (other.ask(), b"{}")])
        repeated = other.ask()
        requests |= {await said(opened.store, repeated): repeated for _ in range(3)}
    assert sum(base is not None for base in (await bases(database_url)).values()) > 20
    assert await stored(database_url) != requests
    for _ in range(2):
        await migrate.downgrade(database_url, "0001")
        assert await stored(database_url) == requests
        await migrate.upgrade(database_url)
    async with open_store(database_url) as opened:
        for key, request in requests.items():
            assert await opened.store.request_of(key) == request


async def test_what_lived_on_in_a_follower_goes_down_with_it_and_nowhere_else(database_url: str) -> None:
    await migrate.upgrade(database_url)
    async with open_store(database_url) as opened:
        requests = await told(opened.store, Client().turns(9))
        *deleted, last = requests
        for key in deleted:
            await opened.store.delete(key, now(), None)
    await migrate.downgrade(database_url, "0001")
    assert await stored(database_url) == {last: requests[last]}


async def test_a_request_that_cannot_be_made_whole_goes_down_without_its_bytes(database_url: str) -> None:
    await migrate.upgrade(database_url)
    async with open_store(database_url) as opened:
        requests = await told(opened.store, Client().turns(9))
        other = await told(opened.store, Client(2).turns(9))
    *before, damaged, _, last = requests
    key = literal(database_url, damaged)
    await query(database_url, f"UPDATE inputs SET size = size - 1 WHERE interaction_id = {key}")
    await migrate.downgrade(database_url, "0001")
    left = await stored(database_url)
    assert left == {key: requests[key] for key in before} | other
    assert last not in left
