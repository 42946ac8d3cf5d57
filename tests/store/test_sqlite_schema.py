"""What a new SQLite file is given at once is what all migrations make of one."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrations.written import PATH, migrated, written
from service.store import migrate
from service.store.sqlite_schema import BUSY_SECONDS, lay, stands
from tests.support.store import completed, open_store

_PRAGMAS = ("auto_vacuum", "page_size", "user_version", "application_id", "encoding", "integrity_check")
#: Dies before the statement that begins as the first argument, whoever executes it.
_DYING = """
import asyncio, os, sqlite3, sys
from service.store import migrate

class Dying(sqlite3.Connection):
    def execute(self, statement, *values):
        if statement.startswith(sys.argv[1]):
            os._exit(9)
        return super().execute(statement, *values)

connect = sqlite3.connect
sqlite3.connect = lambda *given, **named: connect(*given, factory=Dying, **named)
asyncio.run(migrate.upgrade(sys.argv[2]))
"""


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


def contents(file: Path) -> dict[str, Any]:
    """Every row of a file but for when its first project was made, and what holds for the whole file."""
    with closing(sqlite3.connect(file)) as connection:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in sorted(names)}
        (project,) = rows["projects"]
        rows["projects"] = [project[:2]]
        return {**rows, **{name: connection.execute(f"PRAGMA {name}").fetchall() for name in _PRAGMAS}}


def die_before(statement: str, url: str) -> None:
    done = subprocess.run([sys.executable, "-c", _DYING, statement, url], check=False, timeout=60)
    assert done.returncode == 9


async def test_it_is_written_down_as_the_migrations_make_it(tmp_path: Path) -> None:
    assert PATH.read_text("utf-8") == await migrated(str(tmp_path / "new.db")), "run make schema"


async def test_a_new_file_is_as_one_that_was_migrated(tmp_path: Path) -> None:
    laid, gone_through = tmp_path / "laid.db", tmp_path / "migrated.db"
    assert lay(str(laid), migrate.SCHEMA_REVISION)
    schema = await migrated(str(gone_through))
    assert written(str(laid)) == schema
    assert contents(laid) == contents(gone_through)
    assert stands(str(laid), migrate.SCHEMA_REVISION)


def test_a_new_file_needs_no_alembic(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\nfrom service.store import migrate\n"
        "print(asyncio.run(migrate.upgrade(sys.argv[1])), 'alembic' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, url_of(tmp_path / "new.db")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.split() == [migrate.SCHEMA_REVISION, "False"]


@pytest.mark.parametrize("statement", ["CREATE TABLE interactions", "CREATE TRIGGER", "INSERT", "COMMIT"])
async def test_a_first_start_that_is_killed_leaves_nothing(tmp_path: Path, statement: str) -> None:
    file = tmp_path / "new.db"
    die_before(statement, url_of(file))
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    await migrate.upgrade(url_of(file))
    async with open_store(url_of(file)) as opened:
        await completed(opened.store)


async def test_a_file_with_tables_is_left_to_the_migrations(tmp_path: Path) -> None:
    file = tmp_path / "older.db"
    await migrate.upgrade(url_of(file), "0008")
    before = written(str(file))
    assert not lay(str(file), migrate.SCHEMA_REVISION)
    assert written(str(file)) == before
    assert await migrate.upgrade(url_of(file)) == migrate.SCHEMA_REVISION


async def test_a_process_waits_for_the_one_that_was_first(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    with closing(sqlite3.connect(file, isolation_level=None, timeout=BUSY_SECONDS)) as first:
        first.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(asyncio.to_thread(lay, str(file), migrate.SCHEMA_REVISION))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        first.execute("CREATE TABLE of_the_first (id INTEGER)")
        first.execute("COMMIT")
    assert not await waiting
