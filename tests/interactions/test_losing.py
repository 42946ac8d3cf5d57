"""A process that loses an interaction and takes it back begins anew with it: what it still had running is nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest
from aiohttp import web

from service.store.records import now
from service.wire import ids
from tests.support.database import Database
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted, gateway_starter
from tests.support.proxy import proxied
from tests.support.reconciling import assert_reconciles
from tests.support.store import literal, query
from tests.support.upstreams import Emulated

#: Queued for an hour of the emulator's clock, running for another.
SLOW = "background;queued=3600;running=3600"
HASTY = {"poll_interval": 0.02, "poll_interval_max": 0.05, "claim_interval": 0.05}
FAR = 2**62
#: Until when the first of all processes lives that have not ended long ago.
_LIVES = "SELECT min(due_at) FROM leases WHERE kind = 'process' AND due_at > 1"
LEASE = 1.0
RARE = {
    "claim_interval": 0.05,
    "background_streams": 0,
    "poll_interval": 1000.0,
    "poll_interval_max": 1000.0,
}


@pytest.fixture
async def slow(start_emulator: StartEmulator) -> Emulated:
    """An emulator whose streams go on only when its clock is moved: one event a minute."""
    return await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)


@pytest.fixture
async def gateway(start_gateway: StartGateway, slow: Emulated) -> Gateway:
    return await start_gateway(slow, **HASTY)


async def logged(gateway: Gateway, name: str) -> int:
    return max((last for _, last, _ in await gateway.database.log(name)), default=0)


async def owners(database: Database, names: Sequence[str]) -> list[bytes]:
    return [(await database.row(name))["owner_id"] for name in names]


async def test_what_was_told_between_a_loss_and_its_end_is_told_again_in_its_place(
    gateway: Gateway, slow: Emulated, database_url: str
) -> None:
    other = literal(database_url, ids.mint())
    async with gateway.live("Slowly", background=True, wish=SLOW) as live:
        slow.clock.advance(3800)
        for _ in range(2):
            await live.next()
        name = live.id
        key = literal(database_url, (await gateway.database.row(name))["id"])

        async def all_is_logged() -> bool:
            return await logged(gateway, name) >= len(live.events)

        async def is_held_again() -> bool:
            return bool((await gateway.database.row(name))["owner_id"] == held)

        await eventually(all_is_logged)
        held = (await gateway.database.row(name))["owner_id"]
        living = f"({other}, 'process', {FAR}, 0)"
        await query(database_url, f"INSERT INTO leases (interaction_id, kind, due_at, tries) VALUES {living}")
        await query(database_url, f"UPDATE interactions SET owner_id = {other} WHERE id = {key}")
        before = await logged(gateway, name)
        slow.clock.advance(300)
        await live.next()
        await asyncio.sleep(0.2)
        assert await logged(gateway, name) == before
        await query(database_url, f"UPDATE leases SET due_at = 0 WHERE interaction_id = {other}")
        await eventually(is_held_again)
        slow.clock.advance(1e6)
        ended = await gateway.finished(name)
    assert ended.body["status"] == "completed"
    batches = await gateway.database.log(name)
    assert all(first == last + 1 for (_, last, _), (first, _, _) in pairwise(batches))
    assert (await gateway.events(name)).text == ended.text
    await assert_reconciles(database_url)


async def test_processes_that_could_not_reach_the_database_keep_what_they_hold(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    several = [await start_gateway(upstream, lease_seconds=LEASE, **RARE) for _ in range(2)]
    names = [(await gateway.ask(background=True, wish=SLOW)).id for gateway in several]
    database = several[0].database
    held = await owners(database, names)
    assert len(set(held)) == 2
    # Until each may judge the other by its silence.
    await asyncio.sleep(LEASE)
    async with database.outage():
        await asyncio.sleep(1.5 * LEASE)
    # It begins when all the others have been silent for too long.
    await start_gateway(upstream, lease_seconds=LEASE, **RARE)
    for _ in range(20):
        await asyncio.sleep(LEASE / 20)
        assert await owners(database, names) == held


async def test_who_begins_after_a_network_was_silent_takes_nothing_from_those_behind_it(
    upstream: Emulated, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    lease, looking = 3 * LEASE, Database(postgres_url)
    async with proxied(postgres_url) as (url, network), AsyncExitStack() as running:
        start_behind, start_here = (gateway_starter(running, one) for one in (url, postgres_url))
        rare = RARE | {"claim_interval": 3600.0}
        living = [await start_behind(upstream, lease_seconds=lease, **rare) for _ in range(2)]
        names = [(await gateway.ask(background=True, wish=SLOW)).id for gateway in [*living, living[0]]]
        # Connections that are idle when the network falls silent, and do not know that they are dead.
        for gateway, name in zip(living, names, strict=False):
            await asyncio.gather(*(gateway.get(name) for _ in range(8)))
        async with network.silent(loses=True):
            dead = literal(postgres_url, ids.mint())
            left, row = literal(postgres_url, ids.from_text(names[-1]) or b""), f"({dead}, 'process', 1, 0)"
            await query(
                postgres_url, f"INSERT INTO leases (interaction_id, kind, due_at, tries) VALUES {row}"
            )
            await query(postgres_url, f"UPDATE interactions SET owner_id = {dead} WHERE id = {left}")
            before = await owners(looking, names)
            await asyncio.sleep(lease)

            async def all_have_said_it() -> bool:
                return caplog.text.count("that this process lives") >= len(living)

            await eventually(all_have_said_it)
            # Once, and not each time that it is said again.
            assert caplog.text.count("that this process lives") == len(living)
        await start_here(upstream, lease_seconds=lease, **RARE)

        async def is_judged() -> bool:
            return (await owners(looking, names))[-1] != before[-1]

        await eventually(is_judged)
        assert (await owners(looking, names))[:-1] == before[:-1]
        (soon,) = (await query(postgres_url, _LIVES))[0]

        async def go_on_living() -> bool:
            return bool(await query(postgres_url, f"{_LIVES} HAVING min(due_at) > {soon + lease * 1e6}"))

        await eventually(go_on_living)
        assert (await owners(looking, names))[:-1] == before[:-1]
        await network.close()
    await looking.close()


async def test_who_begins_takes_nobody_for_dead_who_could_not_answer(
    upstream: Emulated, postgres_url: str
) -> None:
    looking = Database(postgres_url)
    async with proxied(postgres_url) as (url, network), AsyncExitStack() as running:
        gateway = await gateway_starter(running, postgres_url)(upstream, **RARE)
        names = [(await gateway.ask(background=True, wish=SLOW)).id for _ in range(2)]
        await gateway.stop()
        living, dead = (literal(postgres_url, ids.mint()) for _ in range(2))
        for process, name in zip((living, dead), names, strict=True):
            row, key = f"({process}, 'process', 1, 0)", literal(postgres_url, ids.from_text(name) or b"")
            await query(
                postgres_url, f"INSERT INTO leases (interaction_id, kind, due_at, tries) VALUES {row}"
            )
            await query(postgres_url, f"UPDATE interactions SET owner_id = {process} WHERE id = {key}")
        before = await owners(looking, names)
        await gateway_starter(running, url)(upstream, lease_seconds=60.0, **RARE)
        async with network.silent():
            # All the time that a roll call takes.
            await asyncio.sleep(2.2)
        # It could not reach the database either, and is as slow to say that it lives as it may be.
        await asyncio.sleep(0.5)
        await query(postgres_url, f"UPDATE leases SET due_at = {FAR} WHERE interaction_id = {living}")

        async def is_judged() -> bool:
            return (await owners(looking, names))[1] != before[1]

        await eventually(is_judged)
        assert (await owners(looking, names))[0] == before[0]
        await network.close()
    await looking.close()


async def test_a_process_that_is_told_to_stop_hands_back_what_it_has_just_claimed(
    gateway: Gateway, start_gateway: StartGateway, slow: Emulated, database_url: str
) -> None:
    # It is alive, so nothing tells it that it has lost the run, and it must not be reading a stream of it.
    other = await start_gateway(slow, background_streams=0, **HASTY)
    made = (await other.ask(background=True, wish=SLOW)).id
    async with gateway.live("Slowly") as live:
        await live.next()
        held = (await gateway.database.row(live.id))["owner_id"]

        async def is_handed_back() -> bool:
            return bool((await gateway.database.row(made))["owner_id"] != held)

        # The claim is committed, and the process that made it does not know of it yet.
        claimed, claimant = (literal(database_url, key) for key in (ids.from_text(made) or b"", held))
        await query(database_url, f"UPDATE interactions SET owner_id = {claimant} WHERE id = {claimed}")
        stopping = asyncio.create_task(gateway.stop())
        await eventually(is_handed_back)
        assert (await other.database.row(live.id))["owner_id"] == held
        slow.clock.advance(1e6)
        assert (await live.rest()).done
    await stopping
    slow.clock.advance(1e6)
    assert (await other.finished(made)).body["status"] == "completed"


async def test_what_was_left_behind_before_the_clock_was_set_back_is_taken_up(
    start_gateway: StartGateway, upstream: Emulated, sqlite_url: str, database_url: str
) -> None:
    if database_url != sqlite_url:
        pytest.skip("Only who has a SQLite file for itself knows without waiting that others are dead.")
    gateway = await start_gateway(
        upstream, background_streams=0, poll_interval=1000.0, poll_interval_max=1000.0
    )
    made = (await gateway.ask(background=True)).id
    await gateway.stop()
    hour = 3600 * 1_000_000
    dead = literal(database_url, ids.derived((now() + hour) // 1000, "dead"))
    lease = f"({dead}, 'process', {now() + hour + 1_000_000}, 0)"
    await query(database_url, f"INSERT INTO leases (interaction_id, kind, due_at, tries) VALUES {lease}")
    await query(database_url, f"UPDATE interactions SET owner_id = {dead}")
    upstream.clock.advance(100)
    successor = await start_gateway(upstream, lease_seconds=60.0, **HASTY)
    assert (await successor.finished(made)).body["status"] == "completed"


async def test_a_stream_that_opens_after_the_end_is_closed_again(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    body = {"id": "v1_up", "object": "interaction", "model": "gemini-2.5-flash", "status": "in_progress"}
    asked, ended, left = (asyncio.Event() for _ in range(3))

    async def script(request: web.Request) -> web.StreamResponse:
        if "stream" not in request.query:
            is_cancel = request.path.endswith("/cancel")
            return web.json_response({**body, "status": "cancelled"} if is_cancel else body)
        asked.set()
        await ended.wait()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.01)
        finally:
            left.set()

    gateway = await start_gateway(await start_scripted(script), **HASTY)
    made = await gateway.ask(background=True)
    await asked.wait()
    assert (await gateway.cancel(made.id)).body["status"] == "cancelled"
    ended.set()
    async with asyncio.timeout(20):
        await left.wait()
