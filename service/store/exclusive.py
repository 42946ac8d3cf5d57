"""A lock beside a SQLite file that one process has at a time, and keeps: the system drops it with its holder."""

from __future__ import annotations

import os
from contextlib import suppress

from service.store.sole import is_at, opened


class Exclusive:
    """The lock that is the file of a name; held from the first time that it could be had until :meth:`release`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def is_held(self) -> bool:
        """Whether this process has the lock, if need be from now on.

        True as well where the file system has no such locks: there nobody can be kept out.
        """
        if self._file is not None:
            return True
        try:
            from fcntl import LOCK_EX, LOCK_NB, flock
        except ImportError:
            return True
        file = None
        try:
            file = opened(self._path)
            flock(file, LOCK_EX | LOCK_NB)
            if is_at(file, self._path):
                self._file, file = file, None
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            if file is not None:
                os.close(file)
        return self._file is not None

    def release(self) -> None:
        """Let another process have it, and take the file away."""
        if self._file is not None:
            # Before the lock goes: whoever has it next made a file of its own.
            with suppress(OSError):
                os.unlink(self._path)
            os.close(self._file)
            self._file = None
