"""What a script does with the database, whatever happens to who runs it."""

from __future__ import annotations

import asyncio
import os
import signal

from sqlalchemy import Text, bindparam, column, insert, table

from service.store.script import Execute, Script
from service.store.statement import Query
from tests.support.store import open_store, query

_NOTE = Query("note", insert(table("noted", column("text", Text))).values(text=bindparam("text", type_=Text)))
#: More than fits between a client and a server that does not read.
_MUCH = 200
_LONG = "x" * 100_000


def notes(count: int, halted: int | None = None) -> Script:
    """Write so many; the server's process with that id stands still from then on."""
    if halted is not None:
        os.kill(halted, signal.SIGSTOP)
    yield Execute(_NOTE, [{"text": _LONG}] * count)
    return count


async def test_a_script_ends_at_once_though_the_server_takes_no_more(postgres_url: str) -> None:
    await query(postgres_url, "CREATE TABLE noted (text text)")
    async with open_store(postgres_url) as opened:
        assert await opened.backend.run(lambda: notes(1)) == 1
        ((server,),) = await query(
            postgres_url,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%scripts'",
        )
        running = asyncio.create_task(opened.backend.run(lambda: notes(_MUCH, server)))
        try:
            await asyncio.sleep(0.3)
            running.cancel()
            await asyncio.wait((running,), timeout=10)
            assert running.cancelled()
        finally:
            os.kill(server, signal.SIGCONT)
        async with asyncio.timeout(10):
            while await opened.backend.run(lambda: notes(1)) is None:
                await asyncio.sleep(0.05)
    assert await query(postgres_url, "SELECT count(*) FROM noted") == [(2,)]
