"""When another process takes over from one that was killed: after its lease and soon then, by the database's clock."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import monotonic

from tests.support.database import Database
from tests.support.outliving import SLOW, WHOLE, StartReplica
from tests.support.reconciling import assert_reconciles
from tests.support.replicas import until
from tests.support.store import query
from tests.support.upstreams import Emulated

LEASE = 2.0
_SECOND = 1e6
_CHANGED = "NEW.owner_id <> OLD.owner_id"
_TABLE = "CREATE TABLE taken (at BIGINT, lived_until BIGINT)"
_UNTIL = "(SELECT due_at FROM leases WHERE interaction_id = OLD.owner_id)"
#: Triggers that note when an interaction changes hands, and how long the process that had it was alive for certain.
_SQLITE = f"""
CREATE TRIGGER taking AFTER UPDATE OF owner_id ON interactions WHEN {_CHANGED} BEGIN
  INSERT INTO taken VALUES (CAST((julianday('now') - 2440587.5) * 86400000000 AS BIGINT), {_UNTIL}); END
"""
_FUNCTION = f"""
CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO taken VALUES ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, {_UNTIL}); RETURN NULL; END $$
"""
_POSTGRES = f"""
CREATE TRIGGER taking AFTER UPDATE OF owner_id ON interactions FOR EACH ROW WHEN ({_CHANGED}) EXECUTE FUNCTION take()
"""


async def test_another_replica_takes_over_within_a_lease_of_the_end_of_the_lease(
    database: Database,
    upstream: Emulated,
    start_replica: StartReplica,
    record_property: Callable[[str, object], None],
) -> None:
    for statement in (_TABLE, _SQLITE) if database.is_sqlite else (_TABLE, _FUNCTION, _POSTGRES):
        await query(database.url, statement)
    first = await start_replica(lease_seconds=LEASE)
    other = await start_replica(lease_seconds=LEASE)
    names = [
        (await first.create("attached", background=True, wish=SLOW))["id"],
        (await first.create("polled", background=True, wish=SLOW))["id"],
        await first.begin("streamed", background=True, wish=SLOW),
    ]
    await first.kill()
    upstream.clock.advance(WHOLE)
    looks = [monotonic()]

    async def all_have_ended() -> bool:
        await other.got(names[0])
        looks.append(monotonic())
        return all([(await database.row(name))["completed_at"] for name in names])

    await until(all_have_ended)
    for name in names:
        assert (await other.got(name))["status"] == "completed"
    # The last sign of life was given a lease before the end that it put off.
    rows = await query(database.url, "SELECT at, lived_until FROM taken")
    silences = [LEASE + (at - until) / _SECOND for at, until in rows]
    ends = [(await database.row(name))["completed_at"] for name in names]
    after = [LEASE + (end - rows[0][1]) / _SECOND for end in ends]
    taken, ended = (", ".join(f"{seconds:.2f}" for seconds in sorted(found)) for found in (silences, after))
    counts = f"lease {LEASE} s: taken over {taken} s, ended {ended} s after the last sign of life"
    record_property("counts", counts)
    assert len(silences) == len(names), counts
    # While the machine or the replica stood still nothing was taken over.
    standstill = sum(max(0.0, later - earlier - 0.2) for earlier, later in pairwise(looks))
    assert all(LEASE <= silence <= 2 * LEASE + standstill for silence in silences), counts
    await assert_reconciles(database.url)
