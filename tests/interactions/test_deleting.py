"""DELETE: the content is gone for certain, the usage stays, upstream's opinion does not matter."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from service.store.records import USAGE_FINAL
from service.wire import ids
from tests.support.gateway import STEPS, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.upstreams import Emulated


async def assert_gone(gateway: Gateway, name: str) -> None:
    for reply in (
        await gateway.get(name),
        await gateway.get(name, stream="true"),
        await gateway.get(name, include_input="true"),
        await gateway.cancel(name),
        await gateway.delete(name),
        await gateway.create(previous_interaction_id=name),
    ):
        assert (reply.status, reply.error["code"]) == (404, "not_found")


async def test_a_deleted_interaction_is_gone(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask("A secret")
    reply = await gateway.delete(made.id)
    assert (reply.status, reply.raw) == (200, b"{}")
    assert reply.headers["x-interaction-id"] == made.id
    await assert_gone(gateway, made.id)
    await assert_gone(gateway, made.upstream_id)
    assert not upstream.holds(made.upstream_id)


async def test_the_content_goes_and_the_usage_stays(gateway: Gateway) -> None:
    made, kept = await gateway.ask("A secret"), await gateway.ask("Another")
    await gateway.delete(made.id)
    assert await gateway.database.bodies(made.id) == {}
    assert len(await gateway.database.bodies(kept.id)) == 2
    row = await gateway.database.row(made.id)
    usage = made.body["usage"]
    assert row["deleted_at"] is not None
    assert row["total_tokens"] == usage["total_tokens"]
    assert row["input_tokens"] == usage["total_input_tokens"]
    assert orjson.loads(row["usage_detail"]) == usage
    assert not [value for value in row.values() if "secret" in str(value)]


async def test_of_a_hold_and_a_delete_at_once_only_one_is_done(gateway: Gateway) -> None:
    made = [await gateway.ask("Perhaps held") for _ in range(12)]
    paths = [f"/api/interactions/{one.id}/hold" for one in made]
    holds, deletes = await asyncio.gather(
        asyncio.gather(*(gateway.request("PUT", path, data=b"{}") for path in paths)),
        asyncio.gather(*(gateway.delete(one.id) for one in made)),
    )
    for one, hold, delete in zip(made, holds, deletes, strict=True):
        assert sorted((hold.status == 200, delete.status == 200)) == [False, True]
        assert (await gateway.get(one.id)).status == (200 if hold.status == 200 else 404)
    listed = (await gateway.request("GET", "/api/holds")).body["holds"]
    assert len(listed) == sum(hold.status == 200 for hold in holds)


async def test_upstreams_id_deletes_too(gateway: Gateway) -> None:
    made = await gateway.ask()
    assert (await gateway.delete(made.upstream_id)).status == 200
    await assert_gone(gateway, made.id)


async def test_the_answer_does_not_depend_on_upstreams_501(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(delete_supported=False)
    gateway = await start_gateway(upstream)
    made = await gateway.ask("A secret")
    reply = await gateway.delete(made.id)
    assert (reply.status, reply.raw) == (200, b"{}")
    assert len(upstream.calls("DELETE")) == 1
    assert upstream.holds(made.upstream_id)
    await assert_gone(gateway, made.id)
    assert await gateway.database.bodies(made.id) == {}


@pytest.mark.parametrize("fault", ["status;code=500", "reset_before", "reset_after", "html;code=502"])
async def test_the_answer_does_not_depend_on_upstreams_faults(
    gateway: Gateway, upstream: Emulated, fault: str
) -> None:
    made = await gateway.ask()
    upstream.fault(fault, method="DELETE")
    assert (await gateway.delete(made.id)).status == 200
    await assert_gone(gateway, made.id)


async def test_upstream_may_be_down(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask()
    await upstream.close()
    assert (await gateway.delete(made.id)).status == 200
    assert (await gateway.get(made.id)).status == 404


async def test_what_upstream_never_kept_is_not_asked_for(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(upstream, history="local")
    made = await gateway.ask()
    assert (await gateway.delete(made.id)).status == 200
    assert upstream.calls("DELETE") == []


async def test_an_unknown_interaction_cannot_be_deleted(gateway: Gateway, upstream: Emulated) -> None:
    assert (await gateway.delete("int_unknown")).error["code"] == "not_found"
    assert upstream.requests == []


async def test_the_outcome_of_a_deleted_run_leaves_no_content(gateway: Gateway, upstream: Emulated) -> None:
    async with gateway.live("A secret", background=True, wish="background;queued=0;running=100") as live:
        await live.next()
        assert (await gateway.delete(live.id)).status == 200
        upstream.clock.advance(300)
        await live.rest()

    async def ended() -> bool:
        row = await gateway.database.row(live.id)
        return row["completed_at"] is not None

    await eventually(ended)
    await assert_gone(gateway, live.id)
    assert await gateway.database.bodies(live.id) == {}
    row = await gateway.database.row(live.id)
    assert not [value for value in row.values() if "secret" in str(value)]


async def test_who_listens_through_another_process_is_told_of_a_delete(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway, other = await start_gateway(upstream), await start_gateway(upstream)
    async with gateway.live("A secret", headers=STEPS) as live:
        async with other.attached(live.id, headers=STEPS) as listener:
            await listener.next()
            assert (await other.delete(live.id)).status == 200
            told = await listener.rest()
        upstream.clock.advance(1e6)
        await live.rest()
    assert (told.types[-1], told.broken, told.done) == ("error", True, False)
    assert told.events[-1]["error"]["code"] == "not_found"


async def test_what_is_deleted_while_upstream_works_on_it_is_deleted_there_once_it_has_answered(
    gateway: Gateway, upstream: Emulated
) -> None:
    upstream.hold()
    creating = asyncio.create_task(gateway.create())

    async def is_begun() -> bool:
        return bool(await gateway.database.rows())

    async def is_gone_upstream() -> bool:
        return (await gateway.database.rows())[0]["upstream_gone_at"] is not None

    await eventually(is_begun)
    (begun,) = await gateway.database.rows()
    assert (await gateway.delete(ids.to_text(begun["id"]))).status == 200
    upstream.release()
    await eventually(is_gone_upstream)
    await creating
    (row,) = await gateway.database.rows()
    assert (row["status"], row["usage_state"]) == ("completed", USAGE_FINAL)
    assert row["total_tokens"] > 0
    assert len(upstream.calls("DELETE")) == 1
