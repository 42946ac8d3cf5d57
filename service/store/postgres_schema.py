"""Whether a PostgreSQL database is as this version needs it, on a plain connection: SQLAlchemy's would load its ORM."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import asyncpg

from service.store.postgres import CLOSE_TIMEOUT, CONNECT_TIMEOUT, FAILURES

_STANDS: Final = (
    "SELECT (SELECT array_agg(version_num::text) = ARRAY[$1] FROM alembic_version) "
    "AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS wanted (name) WHERE to_regclass(name) IS NULL)"
)


async def stands(dsn: str, revision: str, partitions: Sequence[str]) -> bool:
    """Whether the database is at this revision of the schema and has these tables.

    Raises one of :data:`~service.store.postgres.FAILURES`.
    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT, command_timeout=CONNECT_TIMEOUT)
    try:
        return bool(await connection.fetchval(_STANDS, revision, partitions))
    except asyncpg.UndefinedTableError:
        return False
    finally:
        with suppress(*FAILURES):
            await connection.close(timeout=CLOSE_TIMEOUT)
