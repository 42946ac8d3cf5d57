"""How a SQLite file gets smaller again.

SQLite keeps the pages of what was deleted for what comes. A file that was made for it (``auto_vacuum = INCREMENTAL``,
which has to be said before its first table) can give them back a few at a time: each time is a short transaction, and
the writer, which tries again by itself, comes in between. Any other file has to be written anew as a whole, which
nobody can write meanwhile and which needs as much space again; that makes it one that can.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Final

from sqlalchemy import Connection, text

#: Pages given back in one transaction, and seconds between two.
_AT_ONCE: Final = 256
_PAUSE: Final = 0.02
#: Pages that stay free, for what comes next.
_RESERVE: Final = 256
_BUSY_MS: Final = 10_000
_INCREMENTAL: Final = 2


def prepare_file(connection: Connection) -> None:
    """Let a new SQLite file be one that can shrink; changes nothing of a file that has tables, or elsewhere."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA auto_vacuum = INCREMENTAL"))


def give_back(path: str, *, whole: bool) -> int:
    """Shrink a file; how many bytes smaller it will be when its log is next copied into it.

    Raises :class:`sqlite3.Error` while the file cannot be written.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute("PRAGMA secure_delete = ON")
        before = _value(connection, "page_count")
        if whole:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
        elif _value(connection, "auto_vacuum") == _INCREMENTAL:
            _shrink(connection)
        return max(before - _value(connection, "page_count"), 0) * _value(connection, "page_size")


def copy_log(connection: sqlite3.Connection) -> None:
    """Copy the log into the file, which gets smaller by that.

    For the connection of the writer, between two of its transactions: one that begins the log anew while another
    connection begins to copy where nothing is left to copy may damage the file in SQLite before 3.51.3
    (https://sqlite.org/wal.html#walresetbug).
    """
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _shrink(connection: sqlite3.Connection) -> None:
    while (free := _value(connection, "freelist_count") - _RESERVE) > 0:
        # Executed as a statement, the driver would take one step of it, which is one page.
        connection.executescript(f"PRAGMA incremental_vacuum({min(free, _AT_ONCE)})")
        time.sleep(_PAUSE)


def _value(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
