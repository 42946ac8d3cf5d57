"""A SQLite file gets smaller beside others that write."""

from __future__ import annotations

import asyncio
import secrets

from tests.store.test_outage import locked, saved
from tests.support.store import completed, open_store, query

_BODY = 200_000
_COUNT = 20


async def test_a_file_that_another_process_holds_shrinks_when_it_lets_go(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        for _ in range(_COUNT):
            body = secrets.token_hex(_BODY).encode()
            await completed(opened.store, response=b'{"text":"%s"}' % body)
        await query(sqlite_url, "DELETE FROM payloads")
        with locked(sqlite_url):
            giving = asyncio.create_task(opened.backend.give_back(whole=False))
            await asyncio.sleep(0.6)
            assert not giving.done()
        assert await giving > _COUNT * _BODY // 2
        kept = await completed(opened.store, response=b"{}")
        assert await saved(opened, kept) == b"{}"
    assert await query(sqlite_url, "PRAGMA integrity_check") == [("ok",)]
