"""Brings a database to the schema of this version: alembic, in one transaction, under a lock against other starters."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

import service
from service.errors import DatabaseUnusable
from service.store import sqlite_schema
from service.store.dropping import Dropped, drop_partitions
from service.store.engine import dsn_of, file_of, normalised_url, open_engine
from service.store.partitions import create_partitions, lock_schema, wanted_partitions
from service.store.sqlite_space import prepare_file

if TYPE_CHECKING:
    from alembic.config import Config

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: The newest migration; a database that stands here needs none, and alembic need not be imported.
SCHEMA_REVISION = "0017"

#: What alembic calls a database without a schema.
_NOTHING = "base"
_NEWEST = ("head", "heads")
#: So many revisions up.
_FURTHER = re.compile(r"\+[0-9]{1,4}")


class RevisionRefused(Exception):
    """There is no such revision, or the database is beyond it."""


async def upgrade(database_url: str, revision: str = "head") -> str:
    """Migrate up to ``revision`` and make the partitions of the coming days, if that is possible now.

    Gives the revision that the database is at then. Raises :class:`DatabaseUnusable` when the database cannot be
    reached, or stands at a version newer than this one, and :class:`RevisionRefused`.
    """
    if revision != "head":
        # A file that is not there yet would be made only to be told that it cannot be brought anywhere.
        await asyncio.to_thread(_check_name, revision)
        return await _run(database_url, lambda connection: _upgrade(connection, revision))
    if await _stands(database_url, wanted_partitions()) or await _is_laid(database_url):
        return SCHEMA_REVISION
    return await _run(database_url, lambda connection: _upgrade(connection, revision))


async def check(database_url: str) -> None:
    """Raises :class:`DatabaseUnusable` when the database cannot be reached, or has not this version's schema."""
    if await _stands(database_url):
        return
    present = await _run(database_url, _current) or _NOTHING
    if present != SCHEMA_REVISION:
        raise DatabaseUnusable(
            f"the database's schema is at {present}, and this version's at {SCHEMA_REVISION}; use the version of the "
            "service that serves it, or let `interactions migrate` bring it there when no older one does any more."
        )


async def downgrade(database_url: str, revision: str) -> None:
    """Migrate down to ``revision`` (``base`` empties the database); raises as :func:`upgrade` does."""
    await _run(database_url, lambda connection: _downgrade(connection, revision))


async def maintain(database_url: str) -> None:
    """Make the partitions of the coming days, where there are any."""
    if not await _stands(database_url, wanted_partitions()):
        await _run(database_url, create_partitions)


async def drop_expired(database_url: str, moment: datetime) -> list[Dropped]:
    """Drop the partitions whose days were over by ``moment`` and of which nothing is needed any more."""
    return await _run(database_url, lambda connection: drop_partitions(connection, moment))


async def _run(database_url: str, work: Callable[[Connection], _Result]) -> _Result:
    engine = open_engine(database_url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(work)
    except (SQLAlchemyError, OSError) as error:
        raise _unusable(error) from error
    finally:
        await engine.dispose()


async def _stands(database_url: str, partitions: Iterable[str] = ()) -> bool:
    """Whether a database is at this version and has these partitions, which takes no engine of SQLAlchemy's.

    Raises :class:`DatabaseUnusable` where a server cannot be asked.
    """
    file = file_of(database_url)
    if file is not None:
        return await asyncio.to_thread(sqlite_schema.stands, file, SCHEMA_REVISION)
    from service.store.postgres import FAILURES
    from service.store.postgres_schema import stands

    try:
        return await stands(dsn_of(normalised_url(database_url)), SCHEMA_REVISION, list(partitions))
    except FAILURES as error:
        raise _unusable(error) from error


async def _is_laid(database_url: str) -> bool:
    """Whether a database was one of SQLite's without tables, and has all of them now."""
    file = file_of(database_url)
    return file is not None and await asyncio.to_thread(sqlite_schema.lay, file, SCHEMA_REVISION)


def _unusable(error: Exception) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"the database cannot be used ({_first_line(error)}); "
        "check that the URL is right, that the server runs and that this process may write there."
    )


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0] or type(error).__name__


def _upgrade(connection: Connection, revision: str) -> str:
    with connection.begin():
        if revision != "head" or _current(connection) != SCHEMA_REVISION:
            prepare_file(connection)
            lock_schema(connection)
            _alembic(connection, revision)
        reached = _current(connection)
    if reached == SCHEMA_REVISION:
        try:
            create_partitions(connection)
        except SQLAlchemyError as error:
            # The default partition takes the rows meanwhile.
            logger.warning("partitions could not be made: %s", _first_line(error))
    return reached or _NOTHING


def _downgrade(connection: Connection, revision: str) -> None:
    with connection.begin():
        lock_schema(connection)
        _alembic(connection, revision, down=True)


def _current(connection: Connection) -> str | None:
    if connection.dialect.has_table(connection, "alembic_version"):
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None


def _scripts() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(service.__file__).parent.parent / "migrations"))
    return config


def _oldest_first(config: Config) -> list[str]:
    from alembic.script import ScriptDirectory

    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    return [_NOTHING, *reversed(revisions)]


def _alembic(connection: Connection, revision: str, *, down: bool = False) -> None:
    from alembic import command
    from alembic.util import CommandError

    config = _scripts()
    config.attributes["connection"] = connection
    oldest_first = _oldest_first(config)
    present = _current(connection) or _NOTHING
    if not down and present in oldest_first and revision in oldest_first[: oldest_first.index(present)]:
        raise RevisionRefused(
            f"the database is at {present}, and going down loses data; what does so all the same is "
            f"`alembic -x url=URL downgrade {revision}`"
        )
    try:
        (command.downgrade if down else command.upgrade)(config, revision)
    except CommandError as error:
        if present in oldest_first:
            raise RevisionRefused(f"{error}; {_write(oldest_first)}") from error
        raise DatabaseUnusable(
            f"the database's schema does not fit this version ({error}); "
            "use the version of the service that wrote it, or a newer one."
        ) from error


def _check_name(revision: str) -> None:
    """Raises :class:`RevisionRefused` for what leads to no revision, wherever a database stands."""
    oldest_first = _oldest_first(_scripts())
    if revision in (*_NEWEST, *oldest_first):
        return
    if _FURTHER.fullmatch(revision) is None or int(revision) >= len(oldest_first):
        raise RevisionRefused(f"no such revision; {_write(oldest_first)}")


def _write(oldest_first: list[str]) -> str:
    return f"write head, or one from {oldest_first[1]} to {oldest_first[-1]}"
