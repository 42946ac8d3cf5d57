"""Who is taken for dead, by a PostgreSQL whose clock and age the test sets."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from urllib.parse import urlsplit

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
HOUR, DAY = 3_600, 86_400
LEASE = 60.0
#: Upstream is asked about nothing, and only the first turn of a supervisor claims.
RARE = {"background_streams": 0, "poll_interval": 1000.0, "poll_interval_max": 1000.0}
ONCE = {"lease_seconds": LEASE, "claim_interval": 3600.0, **RARE}

_CLOCK = """
CREATE TABLE set_clock AS SELECT 0 AS ahead, 86400 AS age;
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
  'SELECT pg_catalog.clock_timestamp() + make_interval(secs => ahead) FROM public.set_clock';
CREATE FUNCTION public.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql AS
  'SELECT public.clock_timestamp() - make_interval(secs => age) FROM public.set_clock'
"""


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_postgres: str) -> str:
    """A PostgreSQL database in which the server's clock and age are what a table says."""
    template = urlsplit(migrated_postgres).path.removeprefix("/")
    name = f"t{uuid.uuid4().hex}"
    url = postgres_server.create_database(name, template)
    for statement in [*_CLOCK.split(";\n"), f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog']:
        asyncio.run(query(url, statement))
    return url


async def clock(url: str) -> int:
    ((moment,),) = await query(url, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return int(moment)


async def enter(url: str, seconds: float) -> bytes:
    """A process that lives for so long from now on, or has been dead for so long."""
    process = ids.mint()
    row = f"({literal(url, process)}, 'process', {await clock(url) + int(seconds * 1e6)}, 0)"
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


@pytest.mark.parametrize(
    ("age", "is_claimed"),
    [
        pytest.param(DAY, True, id="the database was there"),
        pytest.param(LEASE / 2, False, id="the database was away a moment ago"),
    ],
)
async def test_what_the_long_dead_hold_is_claimed_in_the_first_turn_of_who_begins(
    start_gateway: StartGateway, upstream: Emulated, database_url: str, age: float, is_claimed: bool
) -> None:
    names = await left_behind(start_gateway, upstream, 3)
    dead, alive = await enter(database_url, -2 * HOUR), await enter(database_url, LEASE / 2)
    await give(database_url, names[0], dead)
    await give(database_url, names[1], alive)
    await query(database_url, f"UPDATE set_clock SET age = {age}")
    gateway = await start_gateway(upstream, **ONCE)

    async def has_had_its_turn() -> bool:
        return (await owners(gateway, names))[2] != NOBODY

    await eventually(has_had_its_turn)
    held = await owners(gateway, names)
    assert (held[0] != dead) == is_claimed
    assert held[1] == alive


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
