"""Whether this process is alone on a SQLite file: a lock beside it that the system drops when its holder dies."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger(__name__)

_SUFFIX = "-owner"


class Sole:
    """The lock on one database file; held from :meth:`take` until :meth:`release` or the end of the process."""

    def __init__(self, path: str) -> None:
        self._path = path + _SUFFIX
        self._file: int | None = None

    def take(self) -> bool:
        """Take the lock; False when another process has it, or when the file system has no such locks."""
        try:
            from fcntl import LOCK_EX, LOCK_NB, flock
        except ImportError:
            return False
        file = None
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            flock(file, LOCK_EX | LOCK_NB)
        except OSError as error:
            if file is not None:
                os.close(file)
            logger.info("another process may use this database, and its leases decide: %s", error)
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Let another process be the only one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
