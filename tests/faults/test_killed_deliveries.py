"""The process dies between an outcome and its telling: the next one tells it, under the id that receivers know."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.database import Database
from tests.support.outliving import SLOW, WHOLE, StartReplica
from tests.support.receivers import HANG, receiver
from tests.support.reconciling import assert_reconciles
from tests.support.replicas import Replica, until
from tests.support.store import query
from tests.support.upstreams import Emulated

SETTINGS: dict[str, Any] = {
    "webhook_allow_private": ["127.0.0.0/8", "::1"],
    "webhook_timeout": 1.0,
    "webhook_retry_after": 0.5,
}


async def begun(replica: Replica, *uris: str) -> str:
    told = await replica.create("Work", background=True, wish=SLOW, webhook_config={"uris": list(uris)})
    name: str = told["id"]
    return name


async def all_told(database: Database) -> bool:
    return await query(database.url, "SELECT count(*) FROM webhooks WHERE settled_at IS NULL") == [(0,)]


async def test_what_was_not_taken_before_a_kill_is_told_after_it(
    database: Database, upstream: Emulated, start_replica: StartReplica
) -> None:
    first = await start_replica(**SETTINGS)
    async with receiver() as hanging, receiver() as failing, receiver() as taking:
        hooks = (hanging, failing, taking)
        name = await begun(first, *(hook.url for hook in hooks))
        hanging.answers, failing.answers = [HANG], [500]
        upstream.clock.advance(WHOLE)
        for hook in hooks:
            await hook.has(1)
        await first.kill()
        await start_replica(**SETTINGS)
        await hanging.has(2)
        await failing.has(2)
        await until(lambda: all_told(database))
        # The one that has taken it may be told again, for its answer may not have been recorded.
        told = [told for hook in hooks for told in hook.told]
        assert len({one.id for one in told}) == len({one.raw for one in told}) == 1
        assert {one.body["data"]["id"] for one in told} == {name}
    await assert_reconciles(database.url)


async def test_what_ended_while_nobody_was_there_is_told_by_whoever_finds_it(
    database: Database, upstream: Emulated, start_replica: StartReplica
) -> None:
    first = await start_replica(**SETTINGS)
    async with receiver() as hook:
        names = [await begun(first, hook.url) for _ in range(3)]
        await first.kill()
        upstream.clock.advance(WHOLE)
        await asyncio.gather(
            start_replica(**SETTINGS), *([] if database.is_sqlite else [start_replica(**SETTINGS)])
        )
        await hook.has(3)
        await until(lambda: all_told(database))
        assert sorted(told.body["data"]["id"] for told in hook.told) == sorted(names)
        assert len({told.id for told in hook.told}) == 3
