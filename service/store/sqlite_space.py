"""How a SQLite file gets smaller again.

SQLite keeps the pages of what was deleted for what comes. A file that was made for it (``auto_vacuum = INCREMENTAL``,
which has to be said before its first table) can give them back a few at a time: each time is a short transaction, and
what callers write comes in between. Any other file has to be written anew as a whole, which nobody can write meanwhile
and which needs as much space again; that makes it one that can.

What is done a few pages at a time, and the copying of the log, is for the writer's own connection. In SQLite before
3.51.3 a file can be damaged when one connection begins to copy the log where nothing is left to copy, and another one
at that moment begins the log anew (https://sqlite.org/wal.html#walresetbug); one connection does not do two things at
once.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from sqlalchemy import Connection, text

#: Seconds between two steps of shrinking.
PAUSE: Final = 0.02
#: Seconds that other processes which write are waited for, and between two tries.
PATIENCE: Final = 10.0
BUSY_PAUSE: Final = 0.25
#: Pages given back in one step.
_AT_ONCE: Final = 256
#: Pages that stay free, for what comes next.
_RESERVE: Final = 256
_BUSY_MS: Final = 10_000
_INCREMENTAL: Final = 2


def prepare_file(connection: Connection) -> None:
    """Let a new SQLite file be one that can shrink; changes nothing of a file that has tables, or elsewhere."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA auto_vacuum = INCREMENTAL"))


def size_of(connection: sqlite3.Connection) -> int:
    """Bytes of the file, once its log is copied into it."""
    return _value(connection, "page_count") * _value(connection, "page_size")


def shrink(connection: sqlite3.Connection) -> bool:
    """Give a few pages back; whether there are more. Raises :class:`sqlite3.Error` while others write."""
    if _value(connection, "auto_vacuum") != _INCREMENTAL:
        return False
    free = _value(connection, "freelist_count") - _RESERVE
    if free > 0:
        # Executed as a statement, the driver would take one step of it, which is one page.
        connection.executescript(f"PRAGMA incremental_vacuum({min(free, _AT_ONCE)})")
    return free > _AT_ONCE


def write_anew(path: str) -> None:
    """Write the whole file anew, as one that can shrink; raises :class:`sqlite3.Error` while others write.

    For a connection of its own: it takes as long as it takes, and what waits for the writer can be forgotten meanwhile.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")


def copy_log(connection: sqlite3.Connection) -> None:
    """Copy the log into the file, which gets smaller by that."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _value(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
