"""Processes of the service that have its modules from the beginning.

Loading them is most of what a start takes, and tests that kill start often. What a process is told and does from there
on is what ``python -m service`` is told and does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

_CONTEXT: Final = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "aiosqlite",
        "asyncpg",
        "service.app",
        "service.cli.main",
        "service.store.postgres",
        "service.store.postgres_reports",
        "service.store.sqlite",
        "service.store.sqlite_reports",
        "sqlalchemy.dialects.postgresql.asyncpg",
        "sqlalchemy.dialects.sqlite.aiosqlite",
        "sqlalchemy.ext.asyncio",
        "uvloop",
    ]
)


class ForkedProcess:
    """``python -m service ARGUMENTS`` with this environment, whose log goes to a pipe."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        reading, writing = _CONTEXT.Pipe(duplex=False)
        with writing:
            self._process = _CONTEXT.Process(
                target=_serve, args=(list(arguments), dict(environment), writing)
            )
            self._process.start()
        self.stderr = os.fdopen(os.dup(reading.fileno()), encoding="utf-8")
        reading.close()

    @property
    def pid(self) -> int:
        """The operating system's number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status once it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit status."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "the process goes on"
        return self._process.exitcode

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()


def _serve(arguments: list[str], environment: dict[str, str], log: Connection) -> None:
    from service.cli.main import main

    with log, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["service", *arguments]
    main()
