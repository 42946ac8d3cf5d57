"""Two replicas on one database: what one lets go of, the other takes at once; what it has lost, it leaves alone."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.support.database import Database
from tests.support.outliving import SLOW, WHOLE, StartReplica
from tests.support.reconciling import assert_reconciles
from tests.support.replicas import Replica, until
from tests.support.upstreams import Emulated


async def ended(database: Database, name: str) -> bool:
    return (await database.row(name))["completed_at"] is not None


async def owner(database: Database, name: str) -> bytes:
    found: bytes = (await database.row(name))["owner_id"]
    return found


async def test_a_process_that_was_paused_for_too_long_writes_nothing_any_more(
    database: Database, upstream: Emulated, start_replica: StartReplica
) -> None:
    paused = await start_replica()
    names = [
        (await paused.create("attached", background=True, wish=SLOW))["id"],
        await paused.begin("streamed", background=True, wish=SLOW),
    ]
    upstream.clock.advance(3700)
    names.append(await paused.begin("foreground"))
    upstream.clock.advance(200)

    async def all_noted() -> bool:
        return all([(await database.row(name))["upstream_id"] and await database.log(name) for name in names])

    await until(all_noted)
    held = await owner(database, names[0])
    await _paused_between_writes(paused, database)
    other = await start_replica()
    for name in names:
        await until(partial(_changed_hands, database, name, held))
    upstream.clock.advance(WHOLE)
    for name in names:
        await until(partial(ended, database, name))
    rows = await database.told()
    logs = [await database.log(name) for name in names]
    assert all(logs)
    # Everything that upstream had sent meanwhile is waiting in the paused process's sockets.
    paused.resume()
    fresh = await paused.create("afterwards")
    await asyncio.sleep(0.5)
    now = await database.told()
    del now[fresh["id"]]
    assert now == rows
    assert [await database.log(name) for name in names] == logs
    for name in names:
        assert (await paused.got(name))["status"] == "completed"
    await assert_reconciles(database.url)
    assert not [line for line in [*paused.log, *other.log] if "level=error" in line]


async def _paused_between_writes(replica: Replica, database: Database) -> None:
    """Stop the process where it holds no lock: a SQLite file that is locked by one process is locked for all."""
    for _ in range(100):
        replica.pause()
        if not database.is_sqlite or await database.is_writable():
            return
        replica.resume()
        await asyncio.sleep(0.05)
    raise AssertionError("the process writes all the time")


async def _changed_hands(database: Database, name: str, held: bytes) -> bool:
    return await owner(database, name) != held


async def test_a_stopping_process_hands_over_at_once(
    database: Database, upstream: Emulated, start_replica: StartReplica
) -> None:
    if database.is_sqlite:
        pytest.skip("Between processes on a SQLite file there are no hints.")
    long = {"lease_seconds": 3600.0, "claim_interval": 3600.0}
    first = await start_replica(**long)
    other = await start_replica(**long)
    names = [
        (await first.create("attached", background=True, wish=SLOW))["id"],
        await first.begin("streamed", background=True, wish=SLOW),
        await first.begin("foreground"),
    ]
    upstream.clock.advance(3700)
    await first.stop()
    # With leases of an hour only what was handed back can be taken, and only a hint says when.
    upstream.clock.advance(WHOLE)
    for name in names:
        await until(partial(ended, database, name))
        assert (await other.got(name))["status"] == "completed"
    await assert_reconciles(database.url)


async def test_any_replica_answers_for_what_another_holds(
    database: Database, upstream: Emulated, start_replica: StartReplica
) -> None:
    if database.is_sqlite:
        pytest.skip("Between processes on a SQLite file there are no hints.")
    polls = {"poll_interval": 3600.0, "poll_interval_max": 3600.0, "claim_interval": 3600.0}
    holder = await start_replica(**polls)
    other = await start_replica(background_streams=0)
    followed = (await holder.create("followed", background=True, wish=SLOW))["id"]
    asked = (await other.create("asked", background=True, wish=SLOW))["id"]
    cancelled = (await holder.create("cancelled", background=True, wish=SLOW))["id"]
    polled = (await other.create("polled", background=True, wish=SLOW))["id"]
    listening = asyncio.create_task(other.events(followed))
    for replica, name in ((other, cancelled), (holder, polled)):
        status, told = await replica.cancel(name)
        assert (status, told.get("status")) == (200, "cancelled"), told
    upstream.clock.advance(WHOLE)
    assert b"event: interaction.completed" in await listening
    assert (await other.got(followed))["status"] == "completed"
    await until(lambda: ended(database, asked))
    assert (await holder.got(asked))["status"] == "completed"
    assert len(upstream.creates) == 4
    await assert_reconciles(database.url)
