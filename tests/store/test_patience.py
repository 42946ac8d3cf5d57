"""A caller's patience ends its wait; what has happened is written all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import ServiceUnavailable, StoreError
from service.store.engine import open_engine
from service.store.entries import Write
from service.store.records import Intent
from service.store.statements import FINISH, INSERT_INTENT, INSERT_REQUEST, UPSERT_RESPONSE
from service.store.tables import DEFAULT_PROJECT, NOBODY
from tests.support.proxy import proxied
from tests.support.store import OpenStore, completed, intent, is_sqlite, open_store, outcome, query


@asynccontextmanager
async def held(url: str) -> AsyncIterator[None]:
    """Nobody else can write an interaction meanwhile; they wait."""
    engine = open_engine(url)
    lock = "BEGIN IMMEDIATE" if is_sqlite(url) else "LOCK TABLE interactions IN EXCLUSIVE MODE"
    async with engine.connect() as connection:
        await connection.execute(text(lock))
        try:
            yield
        finally:
            await connection.rollback()
    await engine.dispose()


def ending(begun: Intent) -> tuple[Write, Write]:
    return (FINISH, outcome(begun.id).row(6)), (UPSERT_RESPONSE, (begun.id, b"answer", NOBODY))


async def begin(opened: OpenStore) -> Intent:
    begun = intent()
    await opened.store.begin(begun, b"{}")
    return begun


async def impatient(opened: OpenStore, *writes: Write, shed: bool = False) -> ServiceUnavailable:
    """These writes take too long for their caller; returns how it was told so."""
    with pytest.raises(ServiceUnavailable) as caught:
        await opened.writer.put(*writes, patience=0.0, shed=shed)
    return caught.value


async def saved(opened: OpenStore, begun: Intent) -> bytes | None:
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    return record.response if record is not None else None


async def end_commit() -> None:
    """Cancel the task that writes a batch."""
    while not (writing := [task for task in asyncio.all_tasks() if task.get_name() == "commit"]):
        await asyncio.sleep(0)
    writing[0].cancel()


async def until_written(opened: OpenStore) -> None:
    while opened.writer.stalled_for:
        await asyncio.sleep(0.01)


async def test_an_outcome_is_written_though_its_caller_was_told_that_it_takes_too_long(
    opened: OpenStore, store_url: str
) -> None:
    begun = await begin(opened)
    async with held(store_url):
        error = await impatient(opened, *ending(begun))
        # The interaction ran: to try again would be to pay for it again.
        assert (error.status, error.message, error.retry_after) == (
            503,
            "The store cannot be written now.",
            None,
        )
    await until_written(opened)
    assert await saved(opened, begun) == b"answer"


async def test_closing_writes_the_outcomes_that_nobody_waits_for(store_url: str) -> None:
    async with open_store(store_url) as opened:
        begun = await begin(opened)
        async with held(store_url):
            await impatient(opened, *ending(begun))
        await opened.writer.close()
        assert await saved(opened, begun) == b"answer"


async def test_closing_ends_though_nothing_can_be_written(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(store_url) as opened:
        begun = await begin(opened)
        async with held(store_url):
            waiting = asyncio.create_task(opened.writer.put(*ending(begun), patience=60))
            await asyncio.sleep(0)
            await opened.writer.close(0.1)
            with pytest.raises(ServiceUnavailable):
                await waiting
            assert "1 writes were lost" in caplog.text
            await opened.backend.close()


async def rest_of_split(opened: OpenStore, other: AsyncConnection) -> tuple[Intent, asyncio.Task[None]]:
    """What is left of a batch that was split: it waits until the other connection lets go of its row."""
    begun = [await begin(opened) for _ in range(3)]
    await other.execute(text(f"SELECT 1 FROM interactions WHERE id = '{begun[2].id.hex()}' FOR UPDATE"))
    refused = FINISH, outcome(begun[1].id, model="\ud800").row(1)
    written, failed, waiting = (
        asyncio.create_task(opened.writer.put(*writes, patience=60))
        for writes in (ending(begun[0]), (refused,), ending(begun[2]))
    )
    await written
    with pytest.raises(StoreError):
        await failed
    return begun[2], waiting


async def test_of_a_batch_that_was_split_only_the_rest_is_lost(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine(postgres_url)
    async with open_store(postgres_url) as opened, engine.connect() as other:
        _, waiting = await rest_of_split(opened, other)
        await opened.writer.close(0.1)
        with pytest.raises(ServiceUnavailable):
            await waiting
        assert "1 writes were lost" in caplog.text
    await engine.dispose()


async def test_the_rest_of_a_batch_that_was_split_is_tried_again_when_its_task_is_ended(
    postgres_url: str,
) -> None:
    engine = open_engine(postgres_url)
    async with open_store(postgres_url) as opened, engine.connect() as other:
        begun, waiting = await rest_of_split(opened, other)
        await end_commit()
        await other.rollback()
        await waiting
        assert await saved(opened, begun) == b"answer"
    await engine.dispose()


async def test_an_intent_that_was_given_up_is_not_written_later(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        async with held(sqlite_url):
            error = await impatient(opened, (INSERT_INTENT, intent().row(1)), shed=True)
            assert error.retry_after == 5
        await until_written(opened)
        assert await query(sqlite_url, "SELECT count(*) FROM interactions") == [(0,)]


async def test_patience_holds_though_the_network_says_nothing(postgres_url: str) -> None:
    async with proxied(postgres_url) as (url, network), open_store(url) as opened:
        key = await completed(opened.store)
        begun = await begin(opened)
        async with network.silent():
            in_flight = asyncio.create_task(opened.writer.put(*ending(begun), patience=60))
            await asyncio.sleep(0.05)
            beside = asyncio.create_task(opened.writer.put((INSERT_INTENT, intent().row(1)), patience=60))
            await asyncio.sleep(0.05)
            queued = intent()
            error = await impatient(opened, (INSERT_INTENT, queued.row(1)), shed=True)
            assert (error.status, error.retry_after) == (503, 5)
            with pytest.raises(ServiceUnavailable):
                await opened.store.probe()
            assert not in_flight.done()
        await asyncio.gather(in_flight, beside)
        assert await saved(opened, begun) == b"answer"
        assert await saved(opened, queued) is None
        assert await opened.store.find(DEFAULT_PROJECT, key) is not None


async def test_a_caller_does_not_wait_for_a_batch_that_says_nothing(postgres_url: str) -> None:
    async with proxied(postgres_url) as (url, network), open_store(url) as opened:
        async with network.silent():
            error = await impatient(opened, (INSERT_INTENT, intent().row(1)), shed=True)
            assert (error.status, error.retry_after) == (503, 5)
        await until_written(opened)
        await completed(opened.store)


async def test_a_batch_whose_task_is_ended_is_tried_again(postgres_url: str) -> None:
    async with open_store(postgres_url) as opened:
        begun = await begin(opened)
        async with held(postgres_url):
            waiting = asyncio.create_task(opened.writer.put(*ending(begun), patience=60))
            await end_commit()
        await waiting
        assert await saved(opened, begun) == b"answer"


async def test_closing_ends_though_the_network_says_nothing(postgres_url: str) -> None:
    async with proxied(postgres_url) as (url, network), open_store(url) as opened:
        begun = await begin(opened)
        async with network.silent():
            await impatient(opened, *ending(begun))
            await opened.writer.close(0.1)
            await opened.backend.close()


async def test_reads_end_when_no_connection_is_free(postgres_url: str) -> None:
    async with proxied(postgres_url) as (url, network), open_store(url) as opened:
        key = await completed(opened.store)
        async with network.silent():
            reads = [asyncio.create_task(opened.store.find(DEFAULT_PROJECT, key)) for _ in range(5)]
            done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
            for read in done:
                assert isinstance(read.exception(), ServiceUnavailable)
        for read in reads:
            with suppress(ServiceUnavailable):
                assert await read is not None
        assert await opened.store.find(DEFAULT_PROJECT, key) is not None


async def probe_for_ever(opened: OpenStore) -> None:
    while True:
        await opened.store.probe()
        await asyncio.sleep(0.1)


async def test_the_probe_notices_a_writer_that_is_stuck(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        begun = await begin(opened)
        await opened.store.probe()
        async with held(sqlite_url):
            await impatient(opened, *ending(begun))
            with pytest.raises(ServiceUnavailable, match="cannot be written now"):
                await probe_for_ever(opened)
            assert await saved(opened, begun) is None
        await until_written(opened)
        await opened.store.probe()


async def test_new_work_is_shed_by_bytes_and_outcomes_later(store_url: str) -> None:
    async with open_store(store_url, byte_limit=100_000) as opened:
        begun = [await begin(opened) for _ in range(3)]
        async with held(store_url):
            kept = [asyncio.create_task(opened.store.finish(outcome(begun[0].id), bytes(99_000)))]
            await asyncio.sleep(0)
            with pytest.raises(ServiceUnavailable) as shed:
                await opened.store.begin(intent(), b"{}")
            assert shed.value.retry_after == 1
            kept.append(asyncio.create_task(opened.store.finish(outcome(begun[1].id), bytes(99_000))))
            await asyncio.sleep(0)
            with pytest.raises(ServiceUnavailable) as refused:
                await opened.store.finish(outcome(begun[2].id), b"{}")
            assert refused.value.retry_after is None
        await asyncio.gather(*kept)
        assert opened.writer.statistics.shed == 2
        # What is written, refused or forgotten is held no longer.
        await opened.store.finish(outcome(begun[2].id), bytes(99_000))
        await completed(opened.store)


async def test_bytes_that_were_refused_or_forgotten_are_held_no_longer(sqlite_url: str) -> None:
    async with open_store(sqlite_url, byte_limit=100_000) as opened:
        for _ in range(3):
            nameless = (INSERT_INTENT, (intent().id, *[None] * (len(INSERT_INTENT.columns) - 1)))
            with pytest.raises(StoreError):
                await opened.writer.put(nameless, (INSERT_REQUEST, (intent().id, bytes(99_000))), patience=5)
        async with held(sqlite_url):
            for _ in range(3):
                forgotten = (INSERT_INTENT, intent().row(1)), (INSERT_REQUEST, (intent().id, bytes(99_000)))
                assert (await impatient(opened, *forgotten, shed=True)).retry_after == 5
        await completed(opened.store)


async def test_a_batch_that_takes_too_long_is_tried_in_halves(own_postgres_url: str) -> None:
    ((name,),) = await query(own_postgres_url, "SELECT current_database()")
    await query(own_postgres_url, f"ALTER DATABASE \"{name}\" SET statement_timeout = '500ms'")
    async with open_store(own_postgres_url) as opened:
        async with held(own_postgres_url):
            begun = [
                asyncio.create_task(
                    opened.writer.put(
                        (INSERT_INTENT, made.row(2)), (INSERT_REQUEST, (made.id, b"{}")), patience=60
                    )
                )
                for made in (intent() for _ in range(64))
            ]
            while opened.writer.statistics.retries < 2:
                await asyncio.sleep(0.01)
        await asyncio.gather(*begun)
        assert opened.writer.statistics.refused == 0
        assert opened.writer.statistics.batches > 1


async def test_what_the_database_says_of_a_lock_is_no_fault_of_the_rows(own_postgres_url: str) -> None:
    ((name,),) = await query(own_postgres_url, "SELECT current_database()")
    await query(own_postgres_url, f"ALTER DATABASE \"{name}\" SET lock_timeout = '50ms'")
    async with open_store(own_postgres_url) as opened:
        begun = await begin(opened)
        async with held(own_postgres_url):
            finishing = asyncio.create_task(opened.store.finish(outcome(begun.id), b"answer"))
            while opened.writer.statistics.retries < 3:
                await asyncio.sleep(0.01)
        await finishing
        assert await saved(opened, begun) == b"answer"


async def test_a_missing_table_is_no_fault_of_the_rows(own_postgres_url: str) -> None:
    async with open_store(own_postgres_url) as opened:
        begun = await begin(opened)
        await query(own_postgres_url, "ALTER TABLE payloads RENAME TO elsewhere")
        finishing = asyncio.create_task(opened.store.finish(outcome(begun.id), b"answer"))
        while not opened.writer.statistics.retries:
            await asyncio.sleep(0.01)
        await query(own_postgres_url, "ALTER TABLE elsewhere RENAME TO payloads")
        await finishing
        assert await saved(opened, begun) == b"answer"


async def test_a_failure_that_nobody_foresaw_fails_no_other_outcome(
    opened: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    begun = [await begin(opened) for _ in range(20)]
    malformed = begun[10]
    short: Write = (FINISH, outcome(malformed.id).row(6)[:-1])
    waiting = asyncio.create_task(opened.writer.put(short, patience=60))
    await asyncio.gather(
        *(opened.store.finish(outcome(b.id), b"answer") for b in begun if b is not malformed)
    )
    assert not waiting.done()
    assert "cannot be written" in caplog.text
    await opened.writer.close(0.1)
    with pytest.raises(ServiceUnavailable):
        await waiting


async def test_errors_for_callers_say_nothing_of_the_database(
    own_postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(own_postgres_url) as opened:
        await query(own_postgres_url, "ALTER TABLE payloads RENAME TO elsewhere")
        with pytest.raises(ServiceUnavailable) as caught:
            await opened.store.find(DEFAULT_PROJECT, intent().id)
        assert caught.value.message == "The store cannot be read now."
        assert 'relation "payloads" does not exist' in caplog.text
