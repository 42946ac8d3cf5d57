"""The processes that read the parts of a long export and write them out, each with a connection of its own.

A worker is given the keys of parts, and answers with a portion for each, in the order in which it was given them. It
reads no further ahead than its pipe holds, and ends when whoever has started it is gone.
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
from service.audit.portions import Portion
from service.errors import ServiceError, StoreError
from service.store.codec import Codec
from service.store.engine import open_reports

_STANDARD_OUTPUT: Final = 1
_STANDARD_ERROR: Final = 2
_PIPE: Final = 1024 * 1024
#: What is loaded is loaded once for all processes, where the system can do that.
_START: Final = get_context("fork") if "fork" in get_all_start_methods() else get_context("spawn")
_KEY: Final = 16
#: What an answer is, how many interactions it has, the last of them, and how many bytes follow.
_HEAD: Final = Struct("<BI16sQ")
_MADE: Final = 0
_ENDED: Final = 1
_REFUSED: Final = 2
_DIED: Final = 3
_NO_KEY: Final = bytes(_KEY)
#: Bytes that are kept to receive portions in; what is larger is given back.
_ROOM: Final = 8 * 1024 * 1024


class Unforeseen(Exception):
    """What a process has died of, with its traceback."""


class Room:
    """Memory that portions are received in, one after the other."""

    def __init__(self) -> None:
        self._memory = bytearray()

    def of(self, size: int) -> memoryview:
        """So many bytes of it."""
        if not size <= len(self._memory) <= max(_ROOM, size):
            self._memory = bytearray(size)
        return memoryview(self._memory)[:size]


class Worker:
    """One of the processes, as whoever has started it sees it; ``others`` were started before it."""

    def __init__(self, database_url: str, errand: Errand, others: Sequence[Worker]) -> None:
        given, self._giving = _START.Pipe(duplex=False)
        self._taking, taken = _START.Pipe(duplex=False)
        widen(taken.fileno())
        # A pipe ends when nobody holds its other end any more.
        foreign = [pipe for one in (self, *others) for pipe in (one._giving, one._taking)]
        self._process = _START.Process(
            target=_work, args=(database_url, errand, given, taken, foreign), daemon=True
        )
        self._process.start()
        given.close()
        taken.close()
        self._answers = io.FileIO(self._taking.fileno(), closefd=False)

    def give(self, keys: Sequence[bytes]) -> None:
        """The keys of one more part; none are the end. Waits while there is much to do before it."""
        self._giving.send_bytes(b"".join(keys))

    def take(self, room: Room) -> Portion | None:
        """The next portion, in memory that the next one uses again; None behind the last one.

        Raises :class:`StoreError` when the process could not go on, :class:`Unforeseen` when it failed.
        """
        kind, count, last, size = _HEAD.unpack(self._read(memoryview(bytearray(_HEAD.size))))
        data = self._read(room.of(size))
        if kind == _MADE:
            return Portion(count, last, data)
        if kind == _ENDED:
            return None
        told = str(data, "utf-8", "replace")
        raise StoreError(told) if kind == _REFUSED else Unforeseen(told)

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
            _tell(taken, _ENDED)
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
        packing, encoder = Codec(), form_of(errand.form)()
        reader = PartReader(reports, errand.project_id, errand.filters(), with_media=errand.with_media)
        # To wait here holds nobody up: nothing else goes on in this process.
        while keys := given.recv_bytes():
            part = await reader.read([keys[start : start + _KEY] for start in range(0, len(keys), _KEY)])
            some = part.whole(packing)
            portion = encoder.portion(some) if some else Portion(0, _NO_KEY, b"")
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
