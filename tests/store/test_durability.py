"""The settings that make a commit survive a power cut, asked of the connections that write."""

from __future__ import annotations

from pathlib import Path

from tests.support.store import completed, open_sqlite, open_store, query, sqlite_path


async def test_sqlite_commits_reach_the_disk(sqlite_url: str) -> None:
    async with open_sqlite(sqlite_url) as (opened, backend):
        await completed(opened.store)
        assert backend.writing.execute("PRAGMA synchronous").fetchone() == (2,)
        assert backend.writing.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def content(url: str) -> bytes:
    """The bytes of a SQLite file."""
    return Path(sqlite_path(url)).read_bytes()


async def test_what_sqlite_deletes_is_overwritten(sqlite_url: str) -> None:
    # Nothing in it is worth compressing, so it would stand in the file as it is.
    secret = bytes(range(256)) * 2
    async with open_sqlite(sqlite_url) as (opened, backend):
        key = await completed(opened.store, response=secret)
        backend.writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (kept,) = backend.writing.execute("SELECT body FROM payloads WHERE kind = 2").fetchone()
        assert kept in content(sqlite_url)
        await opened.store.delete(key, 1, None)
        backend.writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert kept not in content(sqlite_url)


async def test_postgres_commits_reach_the_disk_whatever_the_default(own_postgres_url: str) -> None:
    ((name,),) = await query(own_postgres_url, "SELECT current_database()")
    await query(own_postgres_url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    await query(own_postgres_url, "CREATE TABLE seen (setting text)")
    await query(
        own_postgres_url,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$",
    )
    await query(
        own_postgres_url,
        "CREATE TRIGGER note AFTER INSERT OR UPDATE ON interactions FOR EACH STATEMENT EXECUTE FUNCTION note()",
    )
    async with open_store(own_postgres_url) as opened:
        await completed(opened.store)
    assert await query(own_postgres_url, "SELECT setting FROM seen") == [("on",), ("on",)]
    assert await query(own_postgres_url, "SHOW synchronous_commit") == [("off",)]
