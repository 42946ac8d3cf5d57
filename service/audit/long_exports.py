"""Exports in processes of their own, as the service sees them: bytes that come piece by piece."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from service.audit.courtesy import Spells
from service.audit.errand import Errand
from service.audit.export_process import REFUSED
from service.errors import StoreError
from service.store.reports import too_many

logger = logging.getLogger(__name__)

_MODULE: Final = "service.audit.export_process"
#: Exports that go on at once, and seconds that one more waits.
_AT_ONCE: Final = 2
_PATIENCE: Final = 10.0
_PIECE: Final = 256 * 1024
#: glibc keeps what is freed for each thread, and more of it the larger blocks were; one place for all, and large blocks
#: that are given back at once, keep it small.
_FRUGAL: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(512 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(8 * 1024 * 1024),
    "OMP_NUM_THREADS": "1",
}
_LONGEST_MESSAGE: Final = 2_000
#: Seconds that a process gets to end by itself.
_FAREWELL: Final = 5.0


class LongExports:
    """Starts the processes, and ends those whose export nobody reads any more.

    ``written`` tells how many writes callers have waited for so far: while many come, exports rest between whiles.
    """

    def __init__(self, database_url: str, written: Callable[[], int]) -> None:
        self._database_url = database_url
        self._written = written
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def pieces(self, errand: Errand) -> AsyncGenerator[bytes, None]:
        """The bytes of an export; close it to end the export early.

        Raises :class:`~service.errors.ServiceUnavailable` while too many go on, :class:`StoreError` when it cannot go
        on.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            raise too_many() from None
        try:
            async with _process(errand.to_bytes(self._database_url)) as process:
                output, errors = _pipes(process)
                spells = Spells(self._written)
                while piece := await output.read(_PIECE):
                    yield piece
                    # Who exports has to wait when nobody reads.
                    if (rest := spells.rest()) > 0:
                        await asyncio.sleep(rest)
                        spells.rested()
                told = (await errors.read()).decode("utf-8", "replace").strip()
                status = await process.wait()
        finally:
            self._turns.release()
        if status == REFUSED:
            raise StoreError(told.rpartition("\n")[2][:_LONGEST_MESSAGE])
        if status != 0:
            logger.error("an export ended with status %d: %s", status, told[-_LONGEST_MESSAGE:])
            raise StoreError(
                "The export broke off; the service's log says more. Go on from where it stopped."
            )


@asynccontextmanager
async def _process(errand: bytes) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_PIECE,
        # The same modules as this process has, from wherever it was started.
        env={**os.environ, **_FRUGAL, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        if process.stdin is not None:
            with suppress(ConnectionError):
                process.stdin.write(errand)
                await process.stdin.drain()
            process.stdin.close()
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        # To the end of what it has written: a pipe is closed there and nowhere else.
        ended = asyncio.ensure_future(process.communicate())
        await asyncio.wait((ended,), timeout=_FAREWELL)
        with suppress(ProcessLookupError):
            process.kill()
        await ended


def _pipes(process: asyncio.subprocess.Process) -> tuple[asyncio.StreamReader, asyncio.StreamReader]:
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("a process was started without pipes")
    return process.stdout, process.stderr
