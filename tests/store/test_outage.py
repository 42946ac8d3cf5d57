"""What happens to writes and reads while the database is locked, gone or full."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from service.errors import ServiceUnavailable
from service.store.statements import FINISH, INSERT_INTENT, INSERT_REQUEST
from service.store.tables import DEFAULT_PROJECT
from tests.support.postgres import PostgresServer
from tests.support.store import (
    OpenStore,
    completed,
    intent,
    open_sqlite,
    open_store,
    outcome,
    query,
    sqlite_path,
)

_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another connection holds the file for itself."""
    connection = sqlite3.connect(sqlite_path(url), isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()


def hold_up_the_loop() -> None:
    """Let nothing else happen in this process for a moment."""
    time.sleep(0.3)


async def refused(opened: OpenStore, request: bytes = b"{}") -> ServiceUnavailable:
    """A new intent runs out of patience; returns how it was told so."""
    begun = intent()
    with pytest.raises(ServiceUnavailable) as caught:
        await opened.writer.put(
            (INSERT_INTENT, begun.row(1)), (INSERT_REQUEST, (begun.id, request)), patience=0.0, shed=True
        )
    return caught.value


async def saved(opened: OpenStore, key: bytes) -> bytes | None:
    record = await opened.store.find(DEFAULT_PROJECT, key)
    return record.response if record is not None else None


async def test_while_sqlite_is_locked_outcomes_wait_and_intents_are_refused(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        begun = intent()
        await opened.store.begin(begun, b"{}")
        with locked(sqlite_url):
            ending = asyncio.create_task(opened.store.finish(outcome(begun.id), b"answer"))
            error = await refused(opened)
            assert (error.status, error.retry_after) == (503, 5)
            assert not ending.done()
        await ending
        assert await saved(opened, begun.id) == b"answer"
        assert opened.writer.statistics.retries > 0
        assert await query(sqlite_url, "SELECT count(*) FROM interactions") == [(1,)]


async def test_a_locked_sqlite_file_can_still_be_read(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        key = await completed(opened.store, response=b"answer")
        with locked(sqlite_url):
            assert await saved(opened, key) == b"answer"


async def test_a_lock_shorter_than_its_patience_costs_an_intent_nothing(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        begun = intent()
        with locked(sqlite_url):
            beginning = asyncio.create_task(opened.store.begin(begun, b"{}"))
            await asyncio.sleep(0.2)
            assert not beginning.done()
        await beginning
        assert await opened.store.find(DEFAULT_PROJECT, begun.id) is not None


async def test_the_time_in_which_the_process_stood_still_costs_nobody_patience(opened: OpenStore) -> None:
    begun = intent()
    writes = (INSERT_INTENT, begun.row(1)), (INSERT_REQUEST, (begun.id, b"{}"))
    putting = asyncio.create_task(opened.writer.put(*writes, patience=0.2, shed=True))
    await asyncio.sleep(0)
    for _ in range(5):
        hold_up_the_loop()
    await putting
    assert await opened.store.find(DEFAULT_PROJECT, begun.id) is not None


async def test_closing_waits_for_a_locked_database(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        begun = intent()
        await opened.store.begin(begun, b"{}")
        with locked(sqlite_url):
            ending = asyncio.create_task(opened.store.finish(outcome(begun.id), b"answer"))
            await asyncio.sleep(0.1)
            closing = asyncio.create_task(opened.writer.close())
            await asyncio.sleep(0.1)
            assert not closing.done()
        await closing
        assert ending.done()
        assert await saved(opened, begun.id) == b"answer"


async def test_what_is_refused_when_the_writer_gives_up_is_not_split_any_more(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        with locked(sqlite_url):
            writes = (FINISH, outcome(intent().id, model="\ud800").row(1)), (INSERT_INTENT, intent().row(1))
            waiting = [asyncio.create_task(opened.writer.put(write, patience=60)) for write in writes]
            await asyncio.sleep(0)
            while opened.writer.depth:
                await asyncio.sleep(0)
            closing = asyncio.create_task(opened.writer.close(0.0))
            for _ in range(2):
                await asyncio.sleep(0)
        # The database refuses the batch in the turn of the loop in which patience ends.
        hold_up_the_loop()
        await closing
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in told] == [ServiceUnavailable] * 2
        await opened.backend.close()
        assert await query(sqlite_url, "SELECT count(*) FROM interactions") == [(0,)]


async def test_a_full_disk_refuses_intents_and_loses_no_outcome(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_sqlite(sqlite_url) as (opened, backend):
        kept = {await completed(opened.store, response=b"kept %d" % number): number for number in range(20)}
        begun = intent()
        await opened.store.begin(begun, b"{}")
        answer = bytes(number % 251 for number in range(100_000))
        # Nothing compresses here that the file has no room for: every new page is refused.
        (pages,) = backend.writing.execute("PRAGMA page_count").fetchone()
        backend.writing.execute(f"PRAGMA max_page_count = {pages}")
        ending = asyncio.create_task(opened.store.finish(outcome(begun.id), answer * 300))
        error = await refused(opened, answer * 300)
        assert error.message == "The store cannot be written now."
        while "full" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not ending.done()
        for key, number in kept.items():
            assert await saved(opened, key) == b"kept %d" % number
        backend.writing.execute("PRAGMA max_page_count = 1000000")
        await ending
        assert await saved(opened, begun.id) == answer * 300


async def test_terminated_connections_lose_no_acknowledged_write(own_postgres_url: str) -> None:
    async with open_store(own_postgres_url) as opened:

        async def caller() -> list[bytes]:
            return [await completed(opened.store, response=b"answer") for _ in range(15)]

        async def terminate() -> None:
            for _ in range(8):
                await query(own_postgres_url, f"SELECT pg_terminate_backend(pid) {_OTHERS}")
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            group.create_task(terminate())
            callers = [group.create_task(caller()) for _ in range(8)]
        assert len({key for caller in callers for key in caller.result()}) == 120
        assert opened.writer.statistics.retries > 0
        rows = await query(
            own_postgres_url,
            "SELECT count(*), sum(total_tokens) FROM interactions WHERE completed_at IS NOT NULL",
        )
        assert rows == [(120, 120 * 45)]
        assert await query(own_postgres_url, "SELECT count(*) FROM payloads") == [(240,)]


async def test_while_postgres_takes_no_connections_outcomes_wait_and_intents_are_refused(
    postgres_server: PostgresServer, own_postgres_url: str
) -> None:
    administration = postgres_server.url("postgres")
    ((name,),) = await query(own_postgres_url, "SELECT current_database()")
    async with open_store(own_postgres_url) as opened:
        begun = intent()
        await opened.store.begin(begun, b"{}")
        await query(administration, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        others = "FROM pg_stat_activity WHERE datname = :name"
        await query(administration, f"SELECT pg_terminate_backend(pid) {others}", name=name)
        ending = asyncio.create_task(opened.store.finish(outcome(begun.id), b"answer"))
        error = await refused(opened)
        assert (error.status, error.retry_after) == (503, 5)
        assert not ending.done()
        with pytest.raises(ServiceUnavailable) as caught:
            await opened.store.probe()
        assert caught.value.retry_after == 1
        with pytest.raises(ServiceUnavailable):
            await opened.store.find(DEFAULT_PROJECT, begun.id)
        await query(administration, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await ending
        assert await saved(opened, begun.id) == b"answer"
        await opened.store.probe()


async def test_reads_come_back_after_their_connections_ended(own_postgres_url: str) -> None:
    async with open_store(own_postgres_url) as opened:
        key = await completed(opened.store, response=b"answer")
        assert await saved(opened, key) == b"answer"
        await query(own_postgres_url, f"SELECT pg_terminate_backend(pid) {_OTHERS}")
        # The first reads may meet the ends of the old connections.
        for _ in range(3):
            with suppress(ServiceUnavailable):
                await saved(opened, key)
        assert await saved(opened, key) == b"answer"


async def test_a_file_that_another_process_is_preparing_is_waited_for(sqlite_url: str) -> None:
    connection = sqlite3.connect(sqlite_path(sqlite_url), isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE prepared (name TEXT)")
    asyncio.get_running_loop().call_later(0.3, connection.close)
    async with open_store(sqlite_url) as opened:
        begun = intent()
        await opened.store.begin(begun, b"{}")
        assert await opened.store.find(DEFAULT_PROJECT, begun.id) is not None
