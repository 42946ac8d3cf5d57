from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from service.store.kept_media import Kept, Known
from service.store.media import LEFT_BEHIND, ORPHANS, content_digest, uri_digest
from service.store.records import now
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.support.store import (
    ANYTHING,
    OpenStore,
    completed,
    intent,
    is_sqlite,
    literal,
    open_sqlite,
    open_store,
    query,
)

MOST = 2**40
PICTURE = os.urandom(50_000)


@pytest.fixture
async def store_url(store_url: str) -> str:
    """A database without media."""
    for table in ("media", "media_contents", "leases"):
        await query(store_url, f"DELETE FROM {table}")
    return store_url


@pytest.fixture
async def replicas(store_url: str) -> AsyncIterator[tuple[OpenStore, OpenStore]]:
    """Two processes on one PostgreSQL; SQLite has but one."""
    async with open_store(store_url) as here:
        if is_sqlite(store_url):
            yield here, here
            return
        async with open_store(store_url) as there:
            yield here, there


def uri(name: str, project: bytes = DEFAULT_PROJECT) -> bytes:
    return uri_digest(project, f"https://upstream/files/{name}")


def known(body: bytes, project: bytes = DEFAULT_PROJECT) -> Known:
    return Known(content_digest(project, body), "image/png")


async def keep(opened: OpenStore, key: bytes, name: str, body: bytes = PICTURE) -> None:
    await opened.store.media.keep(key, uri(name), known(body), body)


async def counts(url: str) -> tuple[int, int]:
    """How many references and how many contents there are."""
    ((references,),) = await query(url, "SELECT count(*) FROM media")
    ((contents,),) = await query(url, "SELECT count(*) FROM media_contents")
    return references, contents


async def test_what_is_kept_is_found_and_loaded(opened: OpenStore) -> None:
    key = await completed(opened.store)
    bodies = {name: os.urandom(1000 * number) for number, name in enumerate("abc", 1)}
    for name, body in bodies.items():
        await keep(opened, key, name, body)
    assert await opened.store.media.of(key) == {uri(name) for name in bodies}
    assert await opened.store.media.find(uri("b")) == known(bodies["b"])
    assert await opened.store.media.find(uri("d")) is None
    loaded = await opened.store.media.load([uri(name) for name in "cabd"], MOST)
    assert loaded == {uri(name): Kept("image/png", len(body), body) for name, body in bodies.items()}


async def test_any_number_is_loaded_at_once(opened: OpenStore) -> None:
    key = await completed(opened.store)
    names = [f"file-{number}" for number in range(300)]
    await asyncio.gather(*(keep(opened, key, name, name.encode()) for name in names))
    loaded = await opened.store.media.load([uri(name) for name in names], MOST)
    assert {digest: kept.body for digest, kept in loaded.items()} == {
        uri(name): name.encode() for name in names
    }
    assert await opened.store.media.load([], MOST) == {}


async def test_bytes_are_not_loaded_when_they_are_too_many(opened: OpenStore) -> None:
    key = await completed(opened.store)
    await keep(opened, key, "a", b"x" * 600)
    await keep(opened, key, "b", b"y" * 600)
    assert (await opened.store.media.load([uri("a"), uri("b")], 1200))[uri("a")].body == b"x" * 600
    loaded = await opened.store.media.load([uri("a"), uri("b")], 1199)
    assert {(kept.size, kept.body) for kept in loaded.values()} == {(600, None)}


async def test_the_same_file_in_many_interactions_is_stored_once(opened: OpenStore, store_url: str) -> None:
    keys = [await completed(opened.store) for _ in range(10)]
    await asyncio.gather(*(keep(opened, key, "a") for key in keys[:5]))
    await asyncio.gather(*(opened.store.media.refer(key, uri("a"), known(PICTURE)) for key in keys[5:]))
    # The same again changes nothing, and neither does another name for the same bytes.
    await keep(opened, keys[0], "a")
    await keep(opened, keys[0], "b")
    assert await counts(store_url) == (11, 1)
    assert len(await opened.store.media.load([uri("a"), uri("b")], MOST)) == 2


async def test_another_project_shares_nothing(opened: OpenStore, store_url: str) -> None:
    other = ids.mint()
    mine, theirs = await completed(opened.store), await completed(opened.store, project_id=other)
    await keep(opened, mine, "a")
    assert await opened.store.media.find(uri("a", other)) is None
    await opened.store.media.keep(theirs, uri("a", other), known(PICTURE, other), PICTURE)
    assert await counts(store_url) == (2, 2)


async def test_a_reference_to_nothing_is_not_made(opened: OpenStore, store_url: str) -> None:
    key = await completed(opened.store)
    await opened.store.media.refer(key, uri("a"), known(PICTURE))
    assert await counts(store_url) == (0, 0)


async def test_deleting_the_last_that_names_them_deletes_the_bytes(opened: OpenStore, store_url: str) -> None:
    first, second = await completed(opened.store), await completed(opened.store)
    await keep(opened, first, "a")
    await keep(opened, second, "a")
    await keep(opened, first, "b", b"of the first alone")
    await opened.store.delete(first, now(), None)
    assert await counts(store_url) == (1, 1)
    await opened.store.delete(second, now(), None)
    assert await counts(store_url) == (0, 0)


async def test_a_whole_chain_is_deleted_with_its_media(opened: OpenStore, store_url: str) -> None:
    keys: list[bytes] = []
    for number in range(150):
        keys.append(await completed(opened.store, previous_id=keys[-1] if keys else None))
        if number % 2:
            await keep(opened, keys[-1], "shared")
    for key in keys[:-1]:
        await opened.store.delete(key, now(), None)
    assert await counts(store_url) == (75, 1)
    await opened.store.delete(keys[-1], now(), None)
    assert await counts(store_url) == (0, 0)


async def test_media_of_a_deleted_parent_stay_for_its_children(opened: OpenStore, store_url: str) -> None:
    parent = await completed(opened.store)
    child = await completed(opened.store, previous_id=parent)
    await keep(opened, parent, "a")
    await opened.store.delete(parent, now(), None)
    await keep(opened, parent, "late", b"fetched after the delete")
    assert await counts(store_url) == (2, 2)
    await opened.store.delete(child, now(), None)
    assert await counts(store_url) == (0, 0)


async def test_what_is_fetched_after_the_erase_does_not_stay(opened: OpenStore, store_url: str) -> None:
    key = await completed(opened.store)
    await opened.store.delete(key, now(), None)
    await keep(opened, key, "a")
    assert await counts(store_url) == (0, 1)
    await opened.store.sweep(now())
    assert await counts(store_url) == (0, 0)


async def test_a_sweep_finds_media_of_what_is_erased_or_gone(opened: OpenStore, store_url: str) -> None:
    erased, gone, there = [await completed(opened.store) for _ in range(3)]
    for key in (erased, gone, there):
        await keep(opened, key, "shared")
    await keep(opened, gone, "own", b"of one that is gone")
    named = {key: f"x'{key.hex()}'" if is_sqlite(store_url) else f"'{key.hex()}'" for key in (erased, gone)}
    await query(
        store_url, f"UPDATE interactions SET deleted_at = 1, erased_at = 1 WHERE id = {named[erased]}"
    )
    await query(store_url, f"DELETE FROM interactions WHERE id = {named[gone]}")
    await opened.store.sweep(now())
    assert await counts(store_url) == (1, 1)
    assert await opened.store.media.of(there) == {uri("shared")}


async def test_a_sweep_goes_through_all_media_a_page_at_a_time(opened: OpenStore, store_url: str) -> None:
    there, gone, orphans = 1_100, 700, 800
    keys = [ids.mint() for _ in range(there + gone)]
    begun = [intent(key) for key in keys]
    await asyncio.gather(*(opened.store.begin(entry, b"request") for entry in begun))
    await asyncio.gather(*(keep(opened, key, "a", b"%d" % n) for n, key in enumerate(keys)))
    await query(
        store_url,
        f"DELETE FROM interactions WHERE id > {literal(store_url, keys[there - 1])}",
    )
    # Bytes whose interaction was gone before they came.
    await asyncio.gather(
        *(
            opened.store.media.keep(ids.mint(), uri("b"), known(b"o%d" % n), b"o%d" % n)
            for n in range(orphans)
        )
    )
    assert await counts(store_url) == (there + gone, there + gone + orphans)
    await opened.store.sweep(now())
    assert await counts(store_url) == (there, there)


async def test_no_page_of_a_sweep_reads_all_media(sqlite_url: str) -> None:
    steps = []
    async with open_sqlite(sqlite_url) as (opened, backend):
        for _ in range(2):
            begun = [intent() for _ in range(2_000)]
            await asyncio.gather(*(opened.store.begin(entry, b"request") for entry in begun))
            await asyncio.gather(*(keep(opened, entry.id, "a", entry.id) for entry in begun))
            for query_of_sweep, after in ((LEFT_BEHIND, bytes(16)), (ORPHANS, b"")):
                before = backend.steps
                page = await backend.fetch(query_of_sweep, {"after": after})
                assert not any(left for _, left in page)
                steps.append(backend.steps - before)
    assert all(later < 1.5 * earlier for earlier, later in zip(steps[:2], steps[2:], strict=True))


async def test_keeping_and_deleting_at_once_never_leave_a_reference_to_nothing(
    replicas: tuple[OpenStore, OpenStore], store_url: str
) -> None:
    here, there = replicas
    for _ in range(15):
        naming, deleted = await completed(here.store), await completed(here.store)
        await keep(here, deleted, "a")
        found = await there.store.media.find(uri("a"))
        assert found is not None
        await asyncio.gather(
            there.store.media.refer(naming, uri("a"), found),
            here.store.delete(deleted, now(), None),
        )
        dangling = await query(
            store_url,
            "SELECT count(*) FROM media WHERE content_id NOT IN (SELECT id FROM media_contents)",
        )
        assert dangling == [(0,)]
        await here.store.delete(naming, now(), None)


async def test_two_that_delete_at_once_leave_no_bytes(
    replicas: tuple[OpenStore, OpenStore], store_url: str
) -> None:
    here, there = replicas
    for _ in range(15):
        first, second = await completed(here.store), await completed(here.store)
        await keep(here, first, "a")
        await keep(here, second, "a")
        await asyncio.gather(here.store.delete(first, now(), None), there.store.delete(second, now(), None))
        assert await counts(store_url) == (0, 0)


async def test_what_is_wanted_is_due_until_it_is_settled(opened: OpenStore) -> None:
    key = await completed(opened.store)
    await opened.store.media.want(key, 1000)
    assert await opened.store.media.due(ANYTHING, 999) == []
    assert await opened.store.media.due(ANYTHING, 1000) == [(key, DEFAULT_PROJECT, 0)]
    await opened.store.media.want(key, 2000)
    assert await opened.store.media.due(ANYTHING, 1000) == []
    assert await opened.store.media.due(ANYTHING, 2000) == [(key, DEFAULT_PROJECT, 1)]
    await opened.store.media.settle(key)
    assert await opened.store.media.due(ANYTHING, now()) == []
