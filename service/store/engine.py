"""From a database URL to a backend: the only place that asks which database it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from service.errors import DatabaseUnusable
from service.settings.urls import DRIVERS
from service.store.backend import Backend
from service.store.codec import Codec
from service.store.reports import Reports
from service.store.sqlite_schema import BUSY_SECONDS

if TYPE_CHECKING:
    # Migrations alone need it, and it is a fifth of what an export's process loads.
    from sqlalchemy.ext.asyncio import AsyncEngine


def normalised_url(database_url: str) -> URL:
    """The URL with the driver this service uses; raises :class:`DatabaseUnusable` for any other database."""
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise DatabaseUnusable("not a URL; write sqlite:///FILE or postgresql://...") from error
    driver = DRIVERS.get(url.drivername)
    if driver is None:
        raise DatabaseUnusable(
            f"{url.drivername!r} is not supported; write sqlite:///FILE or postgresql://..."
        )
    if driver == "sqlite+aiosqlite" and url.database in (None, "", ":memory:"):
        raise DatabaseUnusable("SQLite needs a file; write sqlite:///FILE")
    return url.set(drivername=driver)


def file_of(database_url: str) -> str | None:
    """The file of a SQLite database; None of any other."""
    url = normalised_url(database_url)
    return url.database if url.drivername == "sqlite+aiosqlite" else None


def open_backend(database_url: str, codec: Codec, *, pool_limit: int) -> Backend:
    """The backend of this URL, not started; drivers are imported only for the database in use."""
    url = normalised_url(database_url)
    if url.drivername == "sqlite+aiosqlite":
        from service.store.sqlite import SqliteBackend

        return SqliteBackend(url.database or "", codec)
    from service.store.postgres import PostgresBackend

    return PostgresBackend(dsn_of(url), codec, pool_limit=pool_limit)


def open_reports(database_url: str, *, alone: bool = False) -> Reports:
    """Where reports read of this URL, not started; ``alone`` is for one that goes through all of it once."""
    url = normalised_url(database_url)
    if url.drivername == "sqlite+aiosqlite":
        from service.store.sqlite_reports import SqliteReports

        return SqliteReports(f"file:{quote(os.path.abspath(url.database or ''))}?mode=ro", alone=alone)
    from service.store.postgres_reports import PostgresReports

    return PostgresReports(dsn_of(url))


def open_engine(database_url: str) -> AsyncEngine:
    """SQLAlchemy's own engine of this URL, for migrations and whatever else is off the hot path.

    PostgreSQL's URL is read by asyncpg in both places, so that ``sslmode`` and its kin mean the same to both.
    Raises :class:`DatabaseUnusable` for a SQLite file that cannot be opened.
    """
    from sqlalchemy.ext.asyncio import create_async_engine

    url = normalised_url(database_url)
    if url.drivername == "sqlite+aiosqlite":
        _try_file(url.database or "")
        return create_async_engine(url, connect_args={"timeout": BUSY_SECONDS})
    import asyncpg

    dsn = dsn_of(url)
    return create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn))


def _try_file(path: str) -> None:
    """Open the file once: where aiosqlite cannot, it leaves a thread that may speak to the loop after its end."""
    import sqlite3

    try:
        sqlite3.connect(path).close()
    except sqlite3.Error as error:
        raise DatabaseUnusable(
            f"SQLite cannot open the file {path!r} ({error}); "
            "name a file in a folder that this process may write."
        ) from error


def dsn_of(url: URL) -> str:
    """The URL as asyncpg reads it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
