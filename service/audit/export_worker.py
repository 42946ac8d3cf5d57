"""A second process of a long export: it reads parts and writes them out, with a connection of its own.

It is given the keys of parts, and answers with a portion for each, in that order. It makes no more than its pipe holds
of what nobody takes, and ends when whoever has started it is gone.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from struct import Struct
from typing import Final

from service.audit.encoding import form_of
from service.audit.errand import Errand
from service.audit.parts import PartReader
from service.audit.portions import Encoder, Portion
from service.errors import ServiceError, StoreError
from service.store.codec import Codec
from service.store.engine import open_reports
from service.store.reports import Reports

_STANDARD_OUTPUT: Final = 1
_STANDARD_ERROR: Final = 2
_PIPE: Final = 1024 * 1024
#: What is loaded is loaded once for all processes, where the system can do that.
_START: Final = get_context("fork") if "fork" in get_all_start_methods() else get_context("spawn")
_KEY: Final = 16
#: What an answer is, how many interactions it has, the last of them, and how many bytes follow.
_HEAD: Final = Struct("<BI16sQ")
_MADE: Final = 0
_REFUSED: Final = 1
_DIED: Final = 2
_NO_KEY: Final = bytes(_KEY)
_NOTHING: Final = Portion(0, _NO_KEY, b"")
#: Bytes that are kept to receive portions in; what is larger is given back.
_ROOM: Final = 8 * 1024 * 1024


class Unforeseen(Exception):
    """What a process has died of, with its traceback."""


class Making:
    """Reads parts and writes them out, in this process."""

    def __init__(self, reports: Reports, errand: Errand, encoder: Encoder) -> None:
        self._packing = Codec()
        self._reader = PartReader(
            reports,
            errand.late_figures(self._packing),
            errand.project_id,
            errand.filters(),
            with_media=errand.with_media,
        )
        self._encoder = encoder

    async def portion(self, keys: Sequence[bytes]) -> Portion:
        """Of those of some interactions that are selected still; raises :class:`~service.errors.ServiceError`."""
        some = (await self._reader.read(keys)).whole(self._packing)
        return self._encoder.portion(some) if some else _NOTHING


class Worker:
    """The process, as whoever has started it sees it."""

    def __init__(self, database_url: str, errand: Errand) -> None:
        given, self._giving = _START.Pipe(duplex=False)
        self._taking, taken = _START.Pipe(duplex=False)
        widen(taken.fileno())
        # A pipe ends when nobody holds its other end any more.
        foreign = (self._giving, self._taking)
        self._process = _START.Process(
            target=_work, args=(database_url, errand, given, taken, foreign), daemon=True
        )
        self._process.start()
        given.close()
        taken.close()
        self._answers = io.FileIO(self._taking.fileno(), closefd=False)
        self._room = bytearray()

    def give(self, keys: Sequence[bytes]) -> None:
        """The keys of one more part."""
        # What it has died of is told when its answer is taken.
        with suppress(BrokenPipeError):
            self._giving.send_bytes(b"".join(keys))

    def is_ready(self) -> bool:
        """Whether the next portion can be taken without waiting for it."""
        return self._taking.poll()

    def take(self) -> Portion:
        """The next portion, in memory that the one behind it uses again.

        Raises :class:`StoreError` when the process could not go on, :class:`Unforeseen` when it failed.
        """
        kind, count, last, size = _HEAD.unpack(self._read(memoryview(bytearray(_HEAD.size))))
        data = self._read(self._room_for(size))
        if kind == _MADE:
            return Portion(count, last, data)
        told = str(data, "utf-8", "replace")
        raise StoreError(told) if kind == _REFUSED else Unforeseen(told)

    def _room_for(self, size: int) -> memoryview:
        if not size <= len(self._room) <= max(_ROOM, size):
            self._room = bytearray(size)
        return memoryview(self._room)[:size]

    def _read(self, room: memoryview) -> memoryview:
        place = 0
        while place < len(room):
            count = self._answers.readinto(room[place:])
            if not count:
                raise StoreError("A process that reads for the export has died.")
            place += count
        return room

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self._process.terminate()
        self._process.join()


def _work(
    database_url: str, errand: Errand, given: Connection, taken: Connection, foreign: Sequence[Connection]
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for pipe in foreign:
        pipe.close()
    # Whoever reads the export waits for the end of these, and not for this process.
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (_STANDARD_OUTPUT, _STANDARD_ERROR):
        os.dup2(nothing, stream)
    with suppress(BrokenPipeError, EOFError):
        try:
            asyncio.run(_answer(database_url, errand, given, taken))
        except ServiceError as error:
            _tell(taken, _REFUSED, data=error.message.encode())
        except (BrokenPipeError, EOFError):
            raise
        except Exception:
            _tell(taken, _DIED, data=traceback.format_exc().encode())


async def _answer(database_url: str, errand: Errand, given: Connection, taken: Connection) -> None:
    reports = open_reports(database_url, alone=True)
    await reports.start()
    try:
        making = Making(reports, errand, form_of(errand.form)(errand.after))
        # To wait here holds nobody up: nothing else goes on in this process.
        while True:
            keys = given.recv_bytes()
            portion = await making.portion(
                [keys[start : start + _KEY] for start in range(0, len(keys), _KEY)]
            )
            _tell(taken, _MADE, portion.count, portion.last, portion.data)
    finally:
        await reports.close()


def _tell(
    taken: Connection, kind: int, count: int = 0, last: bytes = _NO_KEY, data: bytes | memoryview = b""
) -> None:
    write(taken.fileno(), _HEAD.pack(kind, count, last, len(data)))
    write(taken.fileno(), data)


def write(pipe: int, data: bytes | memoryview) -> None:
    """Write all of it to a file descriptor."""
    left = memoryview(data)
    while left:
        left = left[os.write(pipe, left) :]


def widen(pipe: int) -> None:
    """Let a pipe hold more, so that it is waited for less often; where the system knows how."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
