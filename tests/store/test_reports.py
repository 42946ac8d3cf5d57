"""Reads of reports: a snapshot each, a bounded time, nobody's way; scripts: one process at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, literal, select, text

from service.errors import DatabaseUnusable, DeadlineExceeded, ServiceUnavailable
from service.store.engine import open_reports
from service.store.reports import Reports
from service.store.script import Ask, Script
from service.store.statement import Query
from service.store.tables import interactions
from tests.support.gateway import eventually
from tests.support.store import OpenStore, completed, open_store

ENDLESS = text(
    "WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 2000000000) "
    "SELECT count(*) FROM counted"
)
COUNT = select(func.count()).select_from(interactions)


@pytest.fixture(params=[False, True], ids=["beside", "alone"])
async def reports(store_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Reports]:
    opened = open_reports(store_url, alone=request.param)
    await opened.start()
    yield opened
    await opened.close()


async def test_a_report_that_takes_too_long_is_ended(opened: OpenStore, reports: Reports) -> None:
    for _ in range(3):
        with pytest.raises(DeadlineExceeded, match=r"within 0\.2 seconds; narrow the time"):
            async with reports.reading(timeout=0.2) as reading:
                await reading.fetch(ENDLESS)
    async with reports.reading() as reading:
        assert [tuple(row) for row in await reading.fetch(COUNT)] == [(0,)]


async def test_writes_go_on_while_a_report_reads_its_snapshot(opened: OpenStore, reports: Reports) -> None:
    await completed(opened.store)
    async with reports.reading() as reading:
        assert [tuple(row) for row in await reading.fetch(COUNT)] == [(1,)]
        await completed(opened.store)
        assert [tuple(row) for row in await reading.fetch(COUNT)] == [(1,)]
    async with reports.reading() as reading:
        assert [tuple(row) for row in await reading.fetch(COUNT)] == [(2,)]
    assert opened.writer.statistics.retries == 0


async def test_reports_wait_for_their_turn(opened: OpenStore, reports: Reports) -> None:
    async def read() -> int:
        async with reports.reading() as reading:
            ((count,),) = await reading.fetch(COUNT)
            return int(count)

    assert await asyncio.gather(*(read() for _ in range(20))) == [0] * 20


@pytest.mark.parametrize("alone", [False, True])
async def test_a_file_that_is_no_database_is_refused_and_nothing_runs_on(tmp_path: Path, alone: bool) -> None:
    path = tmp_path / "no.db"
    path.write_bytes(b"This is no database, and as long as the head of one has to be: " * 20)
    before = threading.active_count()
    reports = open_reports(f"sqlite:///{path}", alone=alone)
    with pytest.raises(DatabaseUnusable):
        await reports.start()
    await eventually(lambda: asyncio.sleep(0, threading.active_count() <= before))
    await reports.close()


async def test_signals_are_heard_while_a_process_waits_for_a_statement(sqlite_url: str) -> None:
    class Left(Exception):
        """What a handler of a signal has raised."""

    def leave(*_: object) -> None:
        raise Left

    async with open_store(sqlite_url):
        reports = open_reports(sqlite_url, alone=True)
        await reports.start()
        before = signal.signal(signal.SIGUSR1, leave)
        kill = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGUSR1))
        kill.start()
        try:
            with pytest.raises(ServiceUnavailable):
                async with reports.reading(timeout=60) as reading:
                    await reading.fetch(ENDLESS)
        finally:
            kill.join()
            signal.signal(signal.SIGUSR1, before)
            await reports.close()


def counting() -> Script:
    ((one,),) = yield Ask(Query("one", select(literal(1))))
    return int(one)


async def test_one_of_many_replicas_runs_scripts(own_postgres_url: str) -> None:
    async with open_store(own_postgres_url) as first:
        assert await first.backend.run(counting) == 1
        async with open_store(own_postgres_url) as second:
            assert await second.backend.run(counting) is None
            assert await first.backend.run(counting) == 1
    async with open_store(own_postgres_url) as third:
        async with asyncio.timeout(20):
            # The lock ends with the session of the one that had it.
            while await third.backend.run(counting) is None:
                await asyncio.sleep(0.02)
