"""Whether a PostgreSQL database is as this version needs it, on a plain connection: SQLAlchemy's would load its ORM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from service.store.postgres import CONNECT_TIMEOUT

_STANDS: Final = (
    "SELECT EXISTS (SELECT FROM alembic_version WHERE version_num = $1) "
    "AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS wanted (name) WHERE to_regclass(name) IS NULL)"
)


async def stands(dsn: str, revision: str, partitions: Sequence[str]) -> bool:
    """Whether the database is at this revision of the schema and has these tables; raises what asyncpg does."""
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT, command_timeout=CONNECT_TIMEOUT)
    try:
        return bool(await connection.fetchval(_STANDS, revision, partitions))
    except asyncpg.UndefinedTableError:
        return False
    finally:
        await connection.close()
