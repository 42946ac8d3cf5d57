"""``python -m migrations.written``: writes down what the migrations make of a new SQLite file."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

import service
from service.store import migrate
from service.store.sqlite_schema import BETWEEN

PATH: Final = Path(service.__file__).parent / "store" / "sqlite_schema.sql"
#: Tables that others are made of come with those.
_STATEMENTS: Final = (
    "SELECT sql FROM sqlite_master AS made WHERE sql IS NOT NULL "
    "AND NOT EXISTS (SELECT * FROM pragma_table_list WHERE name = made.name AND type = 'shadow') ORDER BY rowid"
)


def written(file: str) -> str:
    """The statements that a file's schema was made with, in their order."""
    with closing(sqlite3.connect(file)) as connection:
        statements = [sql for (sql,) in connection.execute(_STATEMENTS)]
    return BETWEEN.join(re.sub(r"[ \t]+$", "", sql.strip(), flags=re.MULTILINE) for sql in statements) + "\n"


async def migrated(file: str) -> str:
    """The same of a file that all migrations have gone through."""
    await migrate.upgrade(f"sqlite:///{file}", migrate.SCHEMA_REVISION)
    return written(file)


def main() -> None:
    """Write it."""
    with tempfile.TemporaryDirectory() as folder:
        PATH.write_text(asyncio.run(migrated(str(Path(folder) / "new.db"))), "utf-8")


if __name__ == "__main__":
    main()
