"""Whether a process that begins is alone on a SQLite file: locks beside it that the system drops with their holder.

Every process keeps a shared lock for as long as it lives, and was alone when it began if it could have had the lock for
itself. So who succeeds a process that was killed is not alone while a third one lives. It says nothing of later: others
may begin at any moment, so what counts is whether somebody was there before it.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from service.wire import ids

logger = logging.getLogger(__name__)

_SUFFIX = "-owner"
#: Held for the moment in which a process finds out: a lock does not go from one kind to the other in one step.
_TURN = "-owner-turn"


class Sole:
    """The lock on one database file; held from :meth:`take` until :meth:`release` or the end of the process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> bytes | None:
        """Take the lock; a key that is smaller than all that are minted by processes which begin later.

        None when another process has the lock too, or when the file system has no such locks.
        """
        try:
            from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
        except ImportError:
            return None
        turn = file = None
        alone: bytes | None = None
        try:
            turn = self._turn()
            file = opened(self._path + _SUFFIX)
            try:
                flock(file, LOCK_EX | LOCK_NB)
                alone = ids.first_of_now()
            except BlockingIOError:
                logger.info("another process uses this database, and its leases decide")
            flock(file, LOCK_SH | LOCK_NB)
        except OSError as error:
            if file is not None:
                os.close(file)
            logger.info("another process may use this database, and its leases decide: %s", error)
            return None
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
            turn = opened(self._path + _TURN)
            try:
                flock(turn, LOCK_EX)
                if is_at(turn, self._path + _TURN):
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


def is_at(file: int, path: str) -> bool:
    """Whether an open file is still the one that has this name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def opened(path: str) -> int:
    """Open a file to lock it, and make it where it is not there; raises :class:`OSError`."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
