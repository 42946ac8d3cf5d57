"""The schema of a SQLite file, without alembic, which takes half a second to load and to go through all migrations.

``sqlite_schema.sql`` is what they make of a new file; ``make schema`` writes it anew, and a test compares the two.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.resources import files
from typing import Final

from service.store.records import now
from service.store.tables import DEFAULT_PROJECT

#: What stands between statements: there are semicolons inside of triggers.
BETWEEN: Final = "\n\n"
#: Seconds that a process waits for another one that migrates the same file.
BUSY_SECONDS: Final = 30


def stands(file: str, revision: str) -> bool:
    """Whether a file is at this revision of the schema."""
    try:
        with closing(sqlite3.connect(file)) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return rows == [(revision,)]


def lay(file: str, revision: str) -> bool:
    """Give a file that has no tables all that there are at this revision, the newest, in one transaction.

    False for a file that has some, as one has to which another process was first, and where it cannot be done: whoever
    migrates finds out why.
    """
    try:
        with closing(sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            # No transaction can change it, and nothing does once there is a table.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                return False
            for statement in _statements():
                connection.execute(statement)
            connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
            connection.execute(
                "INSERT INTO projects (id, name, created_at) VALUES (?, 'default', ?)",
                (DEFAULT_PROJECT, now()),
            )
            connection.execute("INSERT INTO search_deletions VALUES (0)")
            connection.execute("COMMIT")
    except sqlite3.Error:
        return False
    return True


def _statements() -> list[str]:
    text = files("service.store").joinpath("sqlite_schema.sql").read_text("utf-8")
    return text.strip().split(BETWEEN)
