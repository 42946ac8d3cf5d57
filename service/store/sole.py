"""Whether this process is alone on a SQLite file: locks beside it that the system drops when their holder dies.

Every process keeps a shared lock for as long as it lives, and was alone when it began if it could have had the lock for
itself. So who succeeds a process that was killed is not alone while a third one lives.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

logger = logging.getLogger(__name__)

_SUFFIX = "-owner"
#: Held for the moment in which a process finds out: a lock does not go from one kind to the other in one step.
_TURN = "-owner-turn"


class Sole:
    """The lock on one database file; held from :meth:`take` until :meth:`release` or the end of the process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> bool:
        """Take the lock; False when another process has it too, or when the file system has no such locks."""
        try:
            from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
        except ImportError:
            return False
        turn = file = None
        try:
            turn = self._turn()
            file = _opened(self._path + _SUFFIX)
            try:
                flock(file, LOCK_EX | LOCK_NB)
                alone = True
            except BlockingIOError:
                logger.info("another process uses this database, and its leases decide")
                alone = False
            flock(file, LOCK_SH | LOCK_NB)
        except OSError as error:
            if file is not None:
                os.close(file)
            logger.info("another process may use this database, and its leases decide: %s", error)
            return False
        finally:
            if turn is not None:
                os.close(turn)
        self._file = file
        return alone

    def release(self) -> None:
        """Be no longer among those that use it; the last one takes the files of the locks away."""
        if self._file is None:
            return
        with suppress(OSError):
            self._remove_files(self._file)
        os.close(self._file)
        self._file = None

    def _turn(self) -> int:
        """The lock of the moment, of the file that others find by its name: the last one may just have removed it."""
        from fcntl import LOCK_EX, flock

        while True:
            turn = _opened(self._path + _TURN)
            try:
                flock(turn, LOCK_EX)
                if _is_at(turn, self._path + _TURN):
                    return turn
            except OSError:
                os.close(turn)
                raise
            os.close(turn)

    def _remove_files(self, file: int) -> None:
        from fcntl import LOCK_EX, LOCK_NB, flock

        turn = self._turn()
        try:
            # Nobody comes to the one while the other is held, so nobody is left with a file that has no name.
            flock(file, LOCK_EX | LOCK_NB)
            os.unlink(self._path + _SUFFIX)
            os.unlink(self._path + _TURN)
        finally:
            os.close(turn)


def _is_at(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _opened(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
