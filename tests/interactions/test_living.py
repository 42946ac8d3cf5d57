"""Who is taken for dead, by a PostgreSQL whose clock the test sets."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import pytest

from service.store.tables import NOBODY
from service.wire import ids
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartGateway
from tests.support.postgres import PostgresServer
from tests.support.store import literal, query
from tests.support.upstreams import Emulated

#: Queued for an hour of the emulator's clock, running for another.
SLOW = "background;queued=3600;running=3600"
HOUR = 3_600
LEASE = 600.0
#: Upstream is asked about nothing, and only the first turn of a supervisor claims.
RARE = {"background_streams": 0, "poll_interval": 1000.0, "poll_interval_max": 1000.0}
ONCE = {"lease_seconds": LEASE, "claim_interval": 3600.0, **RARE}

_CLOCK = """
CREATE TABLE set_clock AS SELECT 0 AS ahead;
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
  'SELECT pg_catalog.clock_timestamp() + make_interval(secs => ahead) FROM public.set_clock'
"""


@pytest.fixture
def database_url(postgres_server: PostgresServer, postgres_template: str) -> str:
    """A PostgreSQL database in which the server's clock is what a table says."""
    name = f"t{uuid.uuid4().hex}"
    url = postgres_server.create_database(name, postgres_template)
    for statement in [*_CLOCK.split(";\n"), f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog']:
        asyncio.run(query(url, statement))
    return url


async def clock(url: str) -> int:
    ((moment,),) = await query(url, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return int(moment)


async def enter(url: str, seconds: float, *, judges: bool = False) -> bytes:
    """A process that lives for so long from now on, or has been dead for so long."""
    process = ids.mint()
    row = f"({literal(url, process)}, 'process', {await clock(url) + int(seconds * 1e6)}, {int(judges)})"
    await query(url, f"INSERT INTO leases (interaction_id, kind, due_at, tries) VALUES {row}")
    return process


async def give(url: str, name: str, process: bytes) -> None:
    key = ids.from_text(name)
    assert key is not None
    owner, held = literal(url, process), literal(url, key)
    await query(url, f"UPDATE interactions SET owner_id = {owner} WHERE id = {held}")


async def owners(gateway: Gateway, names: Sequence[str]) -> list[bytes]:
    return [(await gateway.database.row(name))["owner_id"] for name in names]


async def left_behind(start_gateway: StartGateway, upstream: Emulated, count: int) -> list[str]:
    """Runs that a process has handed back."""
    gateway = await start_gateway(upstream, **ONCE)
    names = [(await gateway.ask(background=True, wish=SLOW)).id for _ in range(count)]
    await gateway.stop()
    return names


async def first_turn(start_gateway: StartGateway, upstream: Emulated, names: Sequence[str]) -> list[bytes]:
    """Who holds these when another process has begun and claimed, once; the last one was handed back before."""
    gateway = await start_gateway(upstream, **ONCE)

    async def has_had_its_turn() -> bool:
        return (await owners(gateway, names))[-1] != NOBODY

    await eventually(has_had_its_turn)
    return await owners(gateway, names)


@pytest.mark.parametrize(
    ("lives", "judges", "ahead", "is_claimed"),
    [
        pytest.param(LEASE / 2, True, 0, True, id="beside one who has not been silent"),
        pytest.param(LEASE / 2, False, 0, False, id="beside one who was silent a moment ago"),
        pytest.param(LEASE / 3, True, 0, False, id="beside one who has been silent for a while"),
        pytest.param(-1.0, True, 0, False, id="when all have been silent"),
        pytest.param(LEASE / 2, True, HOUR, False, id="when the clock was just set forward"),
    ],
)
async def test_what_the_long_dead_hold_is_claimed_in_the_first_turn_of_who_begins(
    start_gateway: StartGateway,
    upstream: Emulated,
    database_url: str,
    lives: float,
    judges: bool,
    ahead: int,
    is_claimed: bool,
) -> None:
    names = await left_behind(start_gateway, upstream, 3)
    dead, other = await enter(database_url, -2 * HOUR), await enter(database_url, lives, judges=judges)
    await give(database_url, names[0], dead)
    await give(database_url, names[1], other)
    await query(database_url, f"UPDATE set_clock SET ahead = {ahead}")
    held = await first_turn(start_gateway, upstream, names)
    assert (held[0] != dead) == is_claimed
    assert held[1] == other


async def test_who_has_lived_for_a_while_vouches_for_the_death_of_others(
    start_gateway: StartGateway, upstream: Emulated, database_url: str
) -> None:
    names = await left_behind(start_gateway, upstream, 2)
    # It judges soon, and nothing is left behind then that it could claim.
    await start_gateway(upstream, **ONCE)

    async def judges() -> bool:
        return bool(await query(database_url, "SELECT 1 FROM leases WHERE kind = 'process' AND tries = 1"))

    await eventually(judges)
    dead = await enter(database_url, -2 * HOUR)
    await give(database_url, names[0], dead)
    await give(database_url, names[1], NOBODY)
    assert dead not in await first_turn(start_gateway, upstream, names)


async def test_who_begins_alone_soon_takes_over_what_the_long_dead_hold(
    start_gateway: StartGateway, upstream: Emulated, database_url: str
) -> None:
    names = await left_behind(start_gateway, upstream, 1)
    dead = await enter(database_url, -2 * HOUR)
    await give(database_url, names[0], dead)
    # Two thirds of this lease are longer than anything here is waited for.
    gateway = await start_gateway(upstream, **ONCE)

    async def is_claimed() -> bool:
        return await owners(gateway, names) != [dead]

    await eventually(is_claimed)


async def test_who_seems_silent_and_does_not_know_it_says_that_it_lives_when_the_roll_is_called(
    start_gateway: StartGateway, upstream: Emulated, database_url: str
) -> None:
    living = [await start_gateway(upstream, **ONCE) for _ in range(2)]
    names = [(await gateway.ask(background=True, wish=SLOW)).id for gateway in [*living, living[0]]]
    dead = await enter(database_url, -2 * HOUR)
    await give(database_url, names[-1], dead)
    held = await owners(living[0], names)
    # As after a fail-over to where their last words have not come.
    await query(
        database_url, f"UPDATE leases SET due_at = due_at - {2 * HOUR * 1_000_000} WHERE kind = 'process'"
    )
    await start_gateway(upstream, **ONCE)

    async def is_judged() -> bool:
        return (await owners(living[0], names))[-1] != dead

    await eventually(is_judged)
    assert (await owners(living[0], names))[:-1] == held[:-1]


async def test_who_may_have_missed_a_call_says_that_it_lives(
    start_gateway: StartGateway, upstream: Emulated, database_url: str
) -> None:
    await start_gateway(upstream, **ONCE)
    seemingly_dead = await query(
        database_url, "UPDATE leases SET due_at = 0 WHERE kind = 'process' RETURNING interaction_id"
    )
    assert seemingly_dead
    listener = "datname = current_database() AND application_name = 'interactions listener'"
    await query(database_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {listener}")

    async def lives() -> bool:
        return bool(await query(database_url, "SELECT 1 FROM leases WHERE kind = 'process' AND due_at > 0"))

    await eventually(lives)


async def test_a_clock_that_is_set_forward_makes_nobody_dead(
    start_gateway: StartGateway, upstream: Emulated, database_url: str
) -> None:
    hasty = {"lease_seconds": 2.0, "claim_interval": 0.02, **RARE}
    several = [await start_gateway(upstream, **hasty) for _ in range(3)]
    names = [(await gateway.ask(background=True, wish=SLOW)).id for gateway in several]
    held = await owners(several[0], names)
    assert len(set(held)) == len(several)
    await query(database_url, f"UPDATE set_clock SET ahead = {HOUR}")
    for _ in range(20):
        await asyncio.sleep(0.05)
        assert await owners(several[0], names) == held
    living = f"SELECT count(*) FROM leases WHERE due_at > {await clock(database_url)}"
    assert await query(database_url, living) == [(len(several),)]


@pytest.mark.parametrize("begins", [True, False], ids=["who begins", "who is there"])
async def test_a_clock_that_is_set_back_keeps_no_dead_process_alive(
    start_gateway: StartGateway, upstream: Emulated, database_url: str, begins: bool
) -> None:
    await enter(database_url, 1.0)
    if not begins:
        await start_gateway(upstream, lease_seconds=1.0)
    await query(database_url, f"UPDATE set_clock SET ahead = -{HOUR}")
    if begins:
        await start_gateway(upstream, lease_seconds=1.0)

    async def is_soon_over() -> bool:
        ((latest,),) = await query(database_url, "SELECT max(due_at) FROM leases WHERE kind = 'process'")
        return int(latest) - await clock(database_url) < 60_000_000

    await eventually(is_soon_over)
