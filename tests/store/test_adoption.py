"""Interactions that were made elsewhere are taken in once, by one project, and never after they were deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import asyncpg
import pytest

from service.store.adoption import Adopted
from service.store.aliases import by_hash, by_time
from service.store.records import now
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.support.store import UPSTREAM_ID, OpenStore, adopted, completed, intent, open_store, outcome, query

OTHER = ids.mint()


async def names(store: Store, project_id: bytes) -> set[bytes]:
    return {holder.id for holder in await store.holders(UPSTREAM_ID) if holder.project_id == project_id}


async def count(url: str, table: str) -> int:
    ((number,),) = await query(url, f"SELECT count(*) FROM {table}")
    assert isinstance(number, int)
    return number


async def test_row_and_bodies_are_there_together(opened: OpenStore) -> None:
    row = adopted()
    await opened.store.adopt(row)
    found = await opened.store.find_by_upstream_id(DEFAULT_PROJECT, UPSTREAM_ID)
    assert found is not None
    assert found == await opened.store.find(DEFAULT_PROJECT, row.id)
    assert (found.response, found.status, found.created_at) == (row.response, "completed", row.created_at)
    assert (found.terminal, found.store, found.upstream_stored) == (True, True, True)
    assert await opened.store.request_of(row.id) == row.request


async def test_taking_it_in_again_changes_nothing(opened: OpenStore, store_url: str) -> None:
    await opened.store.adopt(adopted())
    again = adopted(status="failed", request=b"other", response=b"other")
    await asyncio.gather(*(opened.store.adopt(again) for _ in range(5)))
    assert await query(store_url, "SELECT status FROM interactions") == [("completed",)]
    assert await opened.store.request_of(again.id) == adopted().request
    assert await count(store_url, "payloads") == 2


async def test_what_is_older_than_what_was_gone_through_is_come_to_as_well(opened: OpenStore) -> None:
    retained = opened.store.retained
    await retained.move_mark(await retained.mark(), ids.mint())
    row = adopted()
    await opened.store.adopt(row)
    assert await retained.mark() < row.id
    assert [one.id for one in await retained.living(await retained.mark(), ids.mint())] == [row.id]


async def test_the_first_project_has_it(opened: OpenStore, store_url: str) -> None:
    await opened.store.adopt(adopted())
    await opened.store.adopt(adopted(project_id=OTHER, request=b"other"))
    # Not under another key either.
    await opened.store.adopt(adopted(project_id=OTHER, id=ids.mint(), request=b"other"))
    assert await opened.store.find_by_upstream_id(OTHER, UPSTREAM_ID) is None
    assert await names(opened.store, OTHER) == set()
    assert await count(store_url, "interactions") == 1
    assert await count(store_url, "payloads") == 2


async def test_what_was_made_here_is_not_taken_in(opened: OpenStore, store_url: str) -> None:
    begun = intent(store=False)
    await opened.store.begin(begun, b"{}")
    await opened.store.finish(outcome(begun.id, upstream_id=UPSTREAM_ID), b"{}")
    await opened.store.adopt(adopted())
    assert await names(opened.store, DEFAULT_PROJECT) == {begun.id}
    assert await count(store_url, "payloads") == 2


async def test_a_chain_leads_to_its_root(opened: OpenStore) -> None:
    first = adopted("v1_first")
    second = adopted("v1_second", first)
    third = adopted("v1_third", second)
    for row in (first, second, third):
        await opened.store.adopt(row)
    links = await opened.store.chain(DEFAULT_PROJECT, third.id)
    assert [(link.id, link.request, link.response) for link in links] == [
        (row.id, row.request, row.response) for row in (first, second, third)
    ]
    assert (third.root_id, third.depth) == (first.id, 2)


async def test_no_chain_leads_to_another_projects_content(opened: OpenStore, store_url: str) -> None:
    first = adopted("v1_first", project_id=OTHER)
    await opened.store.adopt(first)
    await opened.store.adopt(adopted("v1_second", first))
    await opened.store.adopt(adopted("v1_third", adopted("v1_second", first)))
    assert await count(store_url, "interactions") == 1
    assert await count(store_url, "payloads") == 2


async def test_what_was_deleted_does_not_come_back(opened: OpenStore, store_url: str) -> None:
    row = adopted()
    await opened.store.adopt(row)
    await opened.store.delete(row.id, now(), None)
    assert await count(store_url, "payloads") == 0
    await opened.store.adopt(row)
    assert await opened.store.find(DEFAULT_PROJECT, row.id) is None
    assert await count(store_url, "payloads") == 0
    assert await names(opened.store, DEFAULT_PROJECT) == {row.id}


async def test_an_open_interaction_gets_its_outcome_later(opened: OpenStore) -> None:
    row = adopted(status="in_progress", completed_at=None)
    await opened.store.adopt(row)
    await opened.store.finish(outcome(row.id, upstream_id=UPSTREAM_ID), b'{"status":"completed","steps":[]}')
    found = await opened.store.find_by_upstream_id(DEFAULT_PROJECT, UPSTREAM_ID)
    assert found is not None
    assert (found.terminal, found.response) == (True, b'{"status":"completed","steps":[]}')


async def test_taking_in_shares_batches_with_everything_else(opened: OpenStore) -> None:
    rows = [adopted(f"v1_elsewhere_{number}") for number in range(8)]
    gone = await completed(opened.store)
    async with asyncio.TaskGroup() as group:
        made = group.create_task(completed(opened.store))
        group.create_task(opened.store.delete(gone, now(), None))
        for row in rows * 2:
            group.create_task(opened.store.adopt(row))
    assert await opened.store.find(DEFAULT_PROJECT, made.result()) is not None
    assert await opened.store.find(DEFAULT_PROJECT, gone) is None
    for row in rows:
        assert await opened.store.request_of(row.id) == row.request


async def test_replicas_take_in_the_same_chains_at_once(postgres_url: str) -> None:
    chains = []
    for chain in range(6):
        first = adopted(f"v1_first_{chain}")
        chains.append([first, adopted(f"v1_second_{chain}", first)])

    async def take_in(store: Store, rows: list[Adopted]) -> None:
        for row in rows:
            await store.adopt(row)

    async with open_store(postgres_url) as one, open_store(postgres_url) as two:
        work = [take_in(one.store, rows) for rows in chains]
        work += [take_in(two.store, rows) for rows in reversed(chains)]
        await asyncio.gather(*work)
        for _, last in chains:
            assert len(await one.store.chain(DEFAULT_PROJECT, last.id)) == 2
        assert await count(postgres_url, "interactions") == 12
        assert await count(postgres_url, "payloads") == 24


async def test_a_late_import_waits_for_a_delete_that_is_under_way(postgres_url: str) -> None:
    row = adopted()
    async with open_store(postgres_url) as opened:
        await opened.store.adopt(row)
        connection = await asyncpg.connect(postgres_url)
        try:
            async with connection.transaction():
                key = UUID(bytes=row.id)
                await connection.execute("UPDATE interactions SET deleted_at = 1 WHERE id = $1", key)
                await connection.execute("DELETE FROM payloads WHERE interaction_id = $1", key)
                late = asyncio.create_task(opened.store.adopt(row))
                await until_somebody_waits(postgres_url)
        finally:
            await connection.close()
        await late
    assert await count(postgres_url, "payloads") == 0


async def until_somebody_waits(url: str) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while await query(url, waiting) != [(1,)]:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("place", [by_hash, by_time])
async def test_what_stands_by_its_hash_or_by_its_time_is_not_taken_in_again(
    store_url: str, place: Callable[[str], int]
) -> None:
    upstream_id = "v1_ChdPU0F4YWFtNkFwS2kxZThQZ05lbXdROBIXT1NBeGFhbTZBcEtpMWU4UGdOZW13UTg"
    begun = intent()
    async with open_store(store_url) as opened:
        await opened.store.begin(begun, b"{}")
        await opened.store.finish(outcome(begun.id, upstream_id=upstream_id), b'{"status":"completed"}')
        change = f"UPDATE interactions SET upstream_id_hash = {place(upstream_id)}"
        await query(store_url, f"{change} WHERE upstream_id = '{upstream_id}'")
        await opened.store.adopt(adopted(upstream_id=upstream_id))
        assert [holder.id for holder in await opened.store.holders(upstream_id)] == [begun.id]


async def test_what_comes_in_together_moves_a_mark_behind_the_first_of_it(opened: OpenStore) -> None:
    store = opened.store
    keys = [bytes([number]) + bytes(15) for number in range(1, 10)]
    for first in (keys[4], keys[0], keys[8]):
        mark = await store.retained.mark()
        await store.retained.move_mark(mark, b"\xff" * 16)
        others = [key for key in keys if key > first]
        for some in ([first, *others], [*others, first]):
            await asyncio.gather(*(store.bring_in((), [key]) for key in some))
            lowered = await store.retained.mark()
            assert int.from_bytes(lowered, "big") == int.from_bytes(first, "big") - 1
