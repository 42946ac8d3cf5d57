"""PostgreSQL finds rows by their keys, however many others lie beside them in however many partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from service.store import migrate
from service.store.backend import committed
from service.store.deletion import CONTENT, ERASE, TOMBSTONE
from service.store.engine import open_engine
from service.store.partitions import create_partitions, key_at
from service.store.records import now
from service.store.tables import DEFAULT_PROJECT
from tests.support.postgres import PostgresServer
from tests.support.store import OpenStore, completed, intent, open_store, query

DAYS = 90
INTERACTIONS = 20_000
FIRST = datetime.now(UTC) - timedelta(days=DAYS)

_MILLISECONDS = f"{int(FIRST.timestamp() * 1000)} + number::bigint * {DAYS * 86_400_000 // INTERACTIONS}"
_KEYS = (
    f"SELECT number, (lpad(to_hex({_MILLISECONDS}), 12, '0') || '7000800000' || lpad(to_hex(number), 10, '0'))::uuid "
    f"AS id FROM generate_series(0, {INTERACTIONS - 1}) number"
)
_FILL = (
    "INSERT INTO interactions (id, project_id, depth, created_at, revision, stream, background, store, request_bytes, "
    "deployment_id, upstream_id, upstream_id_hash, upstream_stored, status, updated_at, completed_at, usage_state) "
    f"SELECT id, '{DEFAULT_PROJECT.hex()}', 0, number, 1, false, false, true, 2, 'dep-1', 'v1_' || number, "
    f"number::bigint * 7919, true, 'completed', 1, 1, 1 FROM ({_KEYS})",
    f"INSERT INTO payloads SELECT id, kind, 0, 2, '{{}}' FROM ({_KEYS}), (VALUES (1), (2)) kinds (kind)",
    f"INSERT INTO inputs SELECT id, decode(lpad(to_hex(number), 32, '0'), 'hex'), 10, 4000, NULL FROM ({_KEYS})",
    "ANALYZE",
)
_READ = (
    "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_user_tables "
    "WHERE relname LIKE 'interactions%' OR relname LIKE 'payloads%' OR relname = 'inputs'"
)


@pytest.fixture(scope="module")
def filled_url(postgres_server: PostgresServer) -> str:
    """Three months of interactions."""
    url = postgres_server.create_database("store_filled")
    asyncio.run(_fill(url))
    return url


async def _fill(url: str) -> None:
    await migrate.upgrade(url)
    engine = open_engine(url)
    async with engine.connect() as connection:
        for day in range(0, DAYS, 14):
            await connection.run_sync(create_partitions, FIRST + timedelta(days=day))
    await engine.dispose()
    for statement in _FILL:
        await query(url, statement)


async def rows_read(url: str, act: Callable[[OpenStore], Awaitable[None]]) -> int:
    """How many rows the database looks at for this."""
    # A connection counts what it has read when it ends.
    ((before,),) = await query(url, _READ)
    async with open_store(url) as opened:
        await act(opened)
    ((after,),) = await query(url, _READ)
    return int(after) - int(before)


async def test_an_upstream_id_that_nobody_has_is_looked_up_by_its_index(filled_url: str) -> None:
    async def find(opened: OpenStore) -> None:
        assert await opened.store.find_by_upstream_id(DEFAULT_PROJECT, "v1_unknown") is None

    assert await rows_read(filled_url, find) < 100


async def test_a_long_request_in_a_chain_is_looked_up_by_its_key(filled_url: str) -> None:
    async def walk(opened: OpenStore) -> None:
        begun = intent()
        await opened.store.begin(begun, b'{"input":["%b"]}' % (b"x" * 5000), listed=True)
        assert len(await opened.store.chain(DEFAULT_PROJECT, begun.id)) == 1

    assert await rows_read(filled_url, walk) < 100


async def test_rows_that_are_written_are_found_by_their_keys(filled_url: str) -> None:
    middle = key_at(FIRST + timedelta(days=DAYS // 2))
    found = await query(
        filled_url, f"SELECT id FROM interactions WHERE id > '{middle}' ORDER BY id LIMIT 200"
    )
    keys = [key.bytes for (key,) in found]

    async def delete_many(opened: OpenStore) -> None:
        await committed(opened.backend, [(TOMBSTONE, [(key, now(), None, 0) for key in keys])])
        await committed(
            opened.backend,
            [
                (ERASE, [(key, now()) for key in keys]),
                *((statement, [(key,) for key in keys]) for statement in CONTENT),
            ],
        )

    assert await rows_read(filled_url, delete_many) < 10 * len(keys)
    assert await query(filled_url, "SELECT count(*) FROM interactions WHERE erased_at > 0") == [(len(keys),)]


async def test_the_children_of_a_deleted_parent_are_deleted_without_looking_at_each_other(
    filled_url: str,
) -> None:
    children: list[bytes] = []

    async def begin(opened: OpenStore) -> None:
        parent = await completed(opened.store)
        children.extend([await completed(opened.store, previous_id=parent) for _ in range(600)])
        await opened.store.delete(parent, now(), None)

    async def delete(opened: OpenStore) -> None:
        for _ in range(200):
            await opened.store.delete(children.pop(), now(), None)

    await rows_read(filled_url, begin)
    read = [await rows_read(filled_url, delete) for _ in range(3)]
    assert read[-1] < 2 * read[0]
