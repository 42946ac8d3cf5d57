"""PostgreSQL keeps interactions by month and bodies by day, as ranges of their time-ordered keys.

Retention drops whole partitions instead of deleting rows. Partitions are made ahead of time; a default partition takes
what falls outside (a clock that jumped), so that a missing partition never refuses a write. Nothing waits for a
partition either: attaching one needs the default partition for a moment, and a request for a lock holds up everybody
who comes after it, so behind a reader that takes its time (a dump) the making of partitions is put off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Uuid, column, literal, select, text
from sqlalchemy import table as named
from sqlalchemy.exc import DBAPIError, IntegrityError

from service.store.tables import PARTITIONED

logger = logging.getLogger(__name__)

#: How far ahead partitions are made: the service may run that long without making new ones.
DAYS_AHEAD = 14

_ADVISORY_LOCK = 7_310_579_014_224
#: Milliseconds that traffic can be held up by the making of one partition: waiting for its lock, and looking through
#: the default partition under it.
LOCK_MS = 1_000
_STATEMENT_MS = 5_000
#: SQLSTATE of a lock that was not to be had in time, and of a statement that took too long.
IN_THE_WAY = ("55P03", "57014")


def lock_schema(connection: Connection) -> None:
    """Keep every other process from changing the schema until this transaction ends.

    On SQLite this also begins the transaction: its driver begins none before a change of the schema.
    """
    lock = f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"
    connection.execute(text(lock if connection.dialect.name == "postgresql" else "BEGIN IMMEDIATE"))


def key_at(moment: datetime) -> UUID:
    """The smallest UUIDv7-ordered key of a moment (RFC 9562 5.7: 48 bits of milliseconds first)."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _ranges(unit: str, first: datetime, last: datetime) -> Iterator[tuple[str, datetime, datetime]]:
    start = first.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "month":
        start = start.replace(day=1)
    while start <= last:
        end = (start + timedelta(days=32)).replace(day=1) if unit == "month" else start + timedelta(days=1)
        yield start.strftime("%Y%m" if unit == "month" else "%Y%m%d"), start, end
        start = end


def wanted_partitions(moment: datetime | None = None) -> dict[str, tuple[str, datetime, datetime]]:
    """Those from ``moment`` (now, by default) to :data:`DAYS_AHEAD` days later: their tables, beginnings and ends."""
    first = moment or datetime.now(UTC)
    return {
        f"{table}_{suffix}": (table, start, end)
        for table, unit in PARTITIONED.items()
        for suffix, start, end in _ranges(unit, first, first + timedelta(days=DAYS_AHEAD))
    }


def create_partitions(connection: Connection, moment: datetime | None = None) -> None:
    """Make the partitions from ``moment`` (now, by default) to :data:`DAYS_AHEAD` days later, where they are missing.

    A range whose rows already stand in the default partition is left there: PostgreSQL refuses to split it, and the
    rows are as well kept where they are. Each partition is made in a transaction of its own, because making one locks
    a table for all: two tables locked at once would wait in a circle with writers that touch both. When somebody is in
    the way, the rest is left for the next time.
    """
    if connection.dialect.name != "postgresql":
        return
    wanted = wanted_partitions(moment)
    try:
        with connection.begin():
            missing = _missing(connection, list(wanted))
        for name in missing:
            _create(connection, name, *wanted[name])
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in IN_THE_WAY:
            raise
        logger.warning("partitions could not be made now, a table is in use; they will be tried again later")


def _missing(connection: Connection, names: list[str]) -> list[str]:
    """Those that no table has, in their order."""
    looked = text(
        "SELECT name FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS wanted (name, place) "
        "WHERE to_regclass(name) IS NULL ORDER BY place"
    )
    return list(connection.execute(looked, {"names": names}).scalars())


def _create(connection: Connection, name: str, table: str, start: datetime, end: datetime) -> None:
    # A row may reach the default partition between the look and the creation, which is then refused.
    with suppress(IntegrityError), connection.begin():
        lock_schema(connection)
        if not _missing(connection, [name]) or _default_holds(connection, table, start, end):
            return
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
        connection.execute(text(f"SET LOCAL statement_timeout = {_STATEMENT_MS}"))
        # Made alone and attached: made as a partition, it would lock the whole table and not only the default.
        connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE)"))
        connection.execute(
            text(
                f"ALTER TABLE {table} ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{key_at(start)}') TO ('{key_at(end)}')"
            )
        )


def _default_holds(connection: Connection, table: str, start: datetime, end: datetime) -> bool:
    key = column("id" if table == "interactions" else "interaction_id", Uuid())
    rest = select(literal(1)).select_from(named(f"{table}_default", key))
    found = connection.execute(rest.where(key >= key_at(start), key < key_at(end)).limit(1)).scalar()
    return found is not None
