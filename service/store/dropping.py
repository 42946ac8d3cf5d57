"""PostgreSQL gives back the space of a day at once when nothing of that day is needed any more.

The bodies and events of a day are a partition each. One is dropped when every interaction of the day is deleted, or has
expired, and none is needed by what is not: by a follow-up, or by a request that was stored without what it has. That
is decided under a lock that keeps everybody from writing into the partition, which is an old one, and from then on
stays so: nothing can build on what is deleted. Each is dropped in a transaction of its own, and put off when a table is
in use: dropping one locks the whole table for a moment.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, and_, exists, literal, or_, select, text
from sqlalchemy.exc import DBAPIError

from service.store.deletion import needed
from service.store.partitions import IN_THE_WAY, LOCK_MS, key_at
from service.store.tables import Key, interactions

logger = logging.getLogger(__name__)

_BODIES: Final = ("payloads", "events")
_DAY: Final = re.compile(r"(?:payloads|events)_(\d{8})")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A partition that is gone, and the bytes that it had."""

    name: str
    size: int


def drop_partitions(connection: Connection, moment: datetime) -> list[Dropped]:
    """Drop every partition of a day before ``moment`` of which nothing is needed; nothing elsewhere than there."""
    if connection.dialect.name != "postgresql":
        return []
    dropped: list[Dropped] = []
    for table in _BODIES:
        for name, day in _partitions(connection, table):
            if day + timedelta(days=1) > moment:
                continue
            try:
                size = _drop(connection, name, day)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in IN_THE_WAY:
                    raise
                logger.warning("the partition %s could not be dropped now, a table is in use", name)
                continue
            if size is not None:
                dropped.append(Dropped(name, size))
    return dropped


def _partitions(connection: Connection, table: str) -> list[tuple[str, datetime]]:
    children = text(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
        "WHERE inhparent = to_regclass(:parent) ORDER BY child.relname"
    )
    with connection.begin():
        names = connection.execute(children, {"parent": table}).scalars().all()
    found = [(name, day) for name in names if (day := _DAY.fullmatch(name))]
    return [(name, datetime.strptime(day[1], "%Y%m%d").replace(tzinfo=UTC)) for name, day in found]


def _drop(connection: Connection, name: str, day: datetime) -> int | None:
    """The size of the partition when it was dropped; None when something of it is needed."""
    with connection.begin():
        if _is_needed(connection, day):
            return None
    with connection.begin():
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
        connection.execute(text(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))
        if _is_needed(connection, day):
            return None
        size: int = connection.execute(
            text("SELECT pg_total_relation_size(to_regclass(:name))"), {"name": name}
        ).scalar_one()
        connection.execute(text(f"DROP TABLE {name}"))
        return size


def _is_needed(connection: Connection, day: datetime) -> bool:
    first, behind = (literal(key_at(moment).bytes, Key) for moment in (day, day + timedelta(days=1)))
    key = interactions.c.id
    wanted = or_(
        interactions.c.deleted_at.is_(None), and_(interactions.c.erased_at.is_(None), needed(key, key))
    )
    found = select(literal(1)).where(key >= first, key < behind, wanted)
    return bool(connection.execute(select(exists(found))).scalar())
