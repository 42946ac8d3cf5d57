"""The process of one long export: reads what is asked on standard input, and writes the export on standard output.

It has a database connection and an interpreter of its own, so that an export costs the creates of the service neither,
and gives way to them for a processor. When whoever started it is gone, so is its standard output, and it ends.

Half of the work is to read, and a process of its own does that half: rows go from it to the one that writes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import traceback
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, Final

import orjson

from service.audit import filters
from service.audit.encoding import Encoder, form_of
from service.audit.export import Export, Part, Unpacked
from service.audit.filters import Filters
from service.errors import ServiceError, StoreError
from service.store.codec import Codec
from service.store.engine import open_reports

#: The exit status of an export that could not go on; the last line on standard error says why.
REFUSED: Final = 3
_ENDED: Final = 1
_STANDARD_OUTPUT: Final = 1
_STANDARD_ERROR: Final = 2
_PIPE: Final = 1024 * 1024
#: How far it stands behind the service for a processor.
_NICENESS: Final = 10
#: Objects that are made before those that are not freed by themselves are looked for: nearly all are.
_COLLECT_AFTER: Final = 200_000
#: What is loaded is loaded once for both processes, where the system can do that.
_START: Final = get_context("fork") if "fork" in get_all_start_methods() else get_context("spawn")


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be exported; ``query`` are the filters as they were asked for, ``since`` and ``until`` their times."""

    project_id: bytes
    query: tuple[tuple[str, str], ...]
    since: int | None
    until: int | None
    after: str | None
    form: str
    with_media: bool

    def to_bytes(self, database_url: str) -> bytes:
        """For the process to read."""
        told = {**asdict(self), "project_id": self.project_id.hex(), "database_url": database_url}
        return orjson.dumps(told)

    @classmethod
    def of(cls, data: bytes) -> tuple[str, Errand]:
        """The database's URL and the errand that :meth:`to_bytes` has written."""
        told: dict[str, Any] = orjson.loads(data)
        query = tuple((name, value) for name, value in told.pop("query"))
        database_url: str = told.pop("database_url")
        return database_url, cls(query=query, project_id=bytes.fromhex(told.pop("project_id")), **told)

    def filters(self) -> Filters:
        """Which interactions are meant."""
        return replace(filters.parse(self.query)[0], since=self.since, until=self.until)


def _read(database_url: str, errand: Errand, sending: Connection, receiving: Connection) -> None:
    """Hand over the parts, and a last word: None, or why it could not go on."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    receiving.close()
    # Whoever reads the export waits for the end of these, and not for this process.
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (_STANDARD_OUTPUT, _STANDARD_ERROR):
        os.dup2(nothing, stream)
    with suppress(BrokenPipeError):
        try:
            asyncio.run(_hand_over(database_url, errand, sending))
            sending.send(None)
        except ServiceError as error:
            sending.send(error.message)
        except Exception:
            sending.send(Unforeseen(traceback.format_exc()))


class Unforeseen(Exception):
    """What the process that reads has died of, with its traceback."""


async def _hand_over(database_url: str, errand: Errand, sending: Connection) -> None:
    reports = open_reports(database_url, alone=True)
    await reports.start()
    try:
        parts = Export(reports, Codec()).read(
            errand.project_id, errand.filters(), errand.after, with_media=errand.with_media
        )
        handing = _Handing(sending)
        async with aclosing(parts), aclosing(_one_ahead(parts)) as read:
            async for part in read:
                await asyncio.to_thread(handing.over, part)
    finally:
        await reports.close()


async def _one_ahead(parts: AsyncGenerator[Part, None]) -> AsyncGenerator[Part, None]:
    """The same parts, the next of which is being read while one is used."""

    async def following() -> Part | None:
        return await anext(parts, None)

    coming = asyncio.create_task(following())
    try:
        while (part := await coming) is not None:
            coming = asyncio.create_task(following())
            yield part
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, ServiceError):
            await coming


class _Handing:
    """Hands parts over, unpacked when whoever takes them is slower than whoever reads: then there is time for it."""

    def __init__(self, sending: Connection) -> None:
        self._sending = sending
        self._packing = Codec()
        self._ended = monotonic()
        self._has_time = False

    def over(self, part: Part) -> None:
        began = monotonic()
        told = part.unpacked(self._packing) if self._has_time else part
        ready = monotonic()
        self._sending.send(told)
        before, self._ended = self._ended, monotonic()
        self._has_time = self._ended - ready > (ready - began) + (began - before)


def _export(receiving: Connection, encoder: Encoder) -> None:
    """Write what is handed over; raises :class:`StoreError` when it could not go on."""
    # Nothing is written before there is something: what cannot even begin is an error, and no broken export.
    waiting = encoder.begin()
    packing = Codec()
    while (part := _received(receiving)) is not None:
        unpacked = part.unpacked(packing) if isinstance(part, Part) else part
        data = encoder.add(unpacked.made())
        _write(waiting)
        _write(data)
        waiting = b""
    _write(waiting + encoder.end())


def _received(receiving: Connection) -> Part | Unpacked | None:
    try:
        word = receiving.recv()
    except EOFError:
        raise StoreError("The process that reads for the export has died.") from None
    if isinstance(word, Unforeseen):
        raise word
    if isinstance(word, str):
        raise StoreError(word)
    part: Part | Unpacked | None = word
    return part


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(_STANDARD_OUTPUT, left) :]


def _widen(pipe: int) -> None:
    """Let a pipe hold more, so that it is waited for less often; where the system knows how."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


def main() -> int:
    """Export; returns the exit status."""
    os.nice(_NICENESS)
    _widen(_STANDARD_OUTPUT)
    database_url, errand = Errand.of(sys.stdin.buffer.read())
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
    receiving, sending = _START.Pipe(duplex=False)
    _widen(sending.fileno())
    reader = _START.Process(target=_read, args=(database_url, errand, sending, receiving), daemon=True)
    reader.start()
    sending.close()
    # So that the reader ends with this process, and is waited for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_ENDED))
    try:
        _export(receiving, form_of(errand.form)())
    except ServiceError as error:
        sys.stderr.write(f"{error.message}\n")
        return REFUSED
    except Unforeseen as error:
        sys.stderr.write(str(error))
        return _ENDED
    except BrokenPipeError:
        return _ENDED
    return 0


if __name__ == "__main__":
    sys.exit(main())
