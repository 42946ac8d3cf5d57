"""kill -9 in the middle of a cancel: whether upstream carries it out or never hears of it, there is one end."""

from __future__ import annotations

import asyncio

from aiohttp import ClientError

from service.store.records import USAGE_FINAL
from tests.support.database import Database
from tests.support.outliving import SLOW, WHOLE, StartReplica
from tests.support.reconciling import assert_reconciles
from tests.support.replicas import Replica, until
from tests.support.replies import Json
from tests.support.upstreams import Emulated

#: Nobody asks upstream but who cancels, and who takes over.
RARE = {"background_streams": 0, "poll_interval": 3600.0, "poll_interval_max": 3600.0}
#: Upstream waits with the cancel, or carries it out and takes for ever to say so: what becomes of the runs.
UNHEARD, UNANSWERED = "latency;seconds=9999999999", "trickle;bytes=1;seconds=3600"
ENDS = {"completed": UNHEARD, "cancelled": UNANSWERED}


def cancels(upstream: Emulated) -> int:
    return sum(seen["path"].endswith("/cancel") for seen in upstream.calls("POST"))


async def are_at_upstream(upstream: Emulated, count: int) -> bool:
    return cancels(upstream) >= count


async def until_cancelled(replica: Replica, name: str) -> Json:
    """Cancel, and again where that is said to be not done yet; it may have been done between the two."""
    waited = False
    while True:
        status, told = await replica.cancel(name)
        if status == 400 and waited:
            return await replica.got(name)
        if status != 503:
            assert status == 200, told
            return told
        waited = True


async def test_the_next_process_finds_out_what_became_of_the_cancel(
    database: Database, upstream: Emulated, start_replica: StartReplica
) -> None:
    first = await start_replica(**RARE)
    names = {status: (await first.create(status, background=True, wish=SLOW))["id"] for status in ENDS}
    upstream.clock.advance(4000)
    for status, name in names.items():
        upstream_id = (await database.row(name))["upstream_id"]
        upstream.fault(ENDS[status], path=f"{upstream_id}/cancel")
    cancelling = [asyncio.create_task(first.cancel(name)) for name in names.values()]
    await until(lambda: are_at_upstream(upstream, len(names)))
    await first.kill()
    for result in await asyncio.gather(*cancelling, return_exceptions=True):
        assert isinstance(result, ClientError), result
    second = await start_replica()
    # Once: upstream has its own memory of what has ended, and that is not for ever.
    upstream.clock.advance(WHOLE)

    async def all_have_ended() -> bool:
        return all([(await database.row(name))["completed_at"] for name in names.values()])

    await until(all_have_ended)
    for status, name in names.items():
        assert (await second.got(name))["status"] == status
        row = await database.row(name)
        assert row["status"] == status
        assert (row["usage_state"] == USAGE_FINAL) == (status == "completed")
    assert len(upstream.creates) == len(names)
    await assert_reconciles(database.url)
    assert not [line for line in second.log if "level=error" in line]


async def test_a_wish_outlives_the_process_that_was_to_fulfil_it(
    database: Database, upstream: Emulated, start_replica: StartReplica
) -> None:
    holder = await start_replica(**RARE)
    other = await start_replica()
    name = (await holder.create("Work", background=True, wish=SLOW))["id"]
    upstream.clock.advance(4000)
    upstream.fault(UNHEARD, path="/cancel")
    # The client is at another process, which cannot cancel what it does not hold.
    cancelling = asyncio.create_task(until_cancelled(other, name))
    await until(lambda: are_at_upstream(upstream, 1))
    await holder.kill()
    assert (await cancelling)["status"] == "cancelled"
    assert (await database.row(name))["status"] == "cancelled"
    assert await database.notes("cancel") == 0
    assert cancels(upstream) >= 2
    assert len(upstream.creates) == 1
    await assert_reconciles(database.url)
    assert not [line for line in other.log if "level=error" in line]
