"""The process of one long export: reads what is asked on standard input, and writes the export on standard output.

It has an interpreter and database connections of its own, so that an export costs the creates of the service neither,
and gives way to them for a processor. When whoever started it is gone, so is its standard output, and it ends.

It finds the keys, hands them out a part at a time, each to the next of its workers, and puts together what they make
of them, in order.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import aclosing, suppress
from itertools import cycle
from typing import Final

from service.audit.encoding import form_of
from service.audit.errand import Errand
from service.audit.export import Export
from service.audit.export_workers import Room, Unforeseen, Worker, widen, write
from service.audit.portions import Encoder
from service.errors import ServiceError
from service.store.codec import Codec
from service.store.engine import open_reports

#: The exit status of an export that could not go on; the last line on standard error says why.
REFUSED: Final = 3
_ENDED: Final = 1
_STANDARD_OUTPUT: Final = 1
#: How far it stands behind the service for a processor.
_NICENESS: Final = 10
#: Objects that are made before those that are not freed by themselves are looked for: nearly all are.
_COLLECT_AFTER: Final = 200_000
_WORKERS: Final = 2


class _Finding:
    """Hands out the keys, in a thread of its own."""

    def __init__(self, database_url: str, errand: Errand, workers: Sequence[Worker]) -> None:
        self._database_url = database_url
        self._errand = errand
        self._workers = workers
        #: What it ended with, if not with the last key.
        self.failure: ServiceError | Unforeseen | None = None

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        # Who has died is found out by whoever waits for its answer.
        with suppress(BrokenPipeError):
            try:
                asyncio.run(self._hand_out())
            except ServiceError as error:
                self.failure = error
            except BrokenPipeError:
                raise
            except Exception:
                self.failure = Unforeseen(traceback.format_exc())
            for worker in self._workers:
                worker.give(())

    async def _hand_out(self) -> None:
        errand = self._errand
        reports = open_reports(self._database_url, alone=True)
        await reports.start()
        try:
            found = Export(reports, Codec()).keys(
                errand.project_id, errand.filters(), errand.after, with_media=errand.with_media
            )
            turns = cycle(self._workers)
            async with aclosing(found):
                async for keys in found:
                    next(turns).give(keys)
        finally:
            await reports.close()


def _put_together(workers: Sequence[Worker], finding: _Finding, encoder: Encoder) -> None:
    """Write what the workers make; raises :class:`ServiceError` or :class:`Unforeseen` when it could not go on."""
    # Nothing is written before there is something: what cannot even begin is an error, and no broken export.
    waiting = encoder.begin()
    room = Room()
    turns = cycle(workers)
    while (portion := next(turns).take(room)) is not None:
        if portion.count:
            data = encoder.add(portion)
            write(_STANDARD_OUTPUT, waiting)
            write(_STANDARD_OUTPUT, data)
            waiting = b""
    if finding.failure is not None:
        raise finding.failure
    write(_STANDARD_OUTPUT, waiting + encoder.end())


def _exported(workers: Sequence[Worker], finding: _Finding, encoder: Encoder) -> int:
    """Export; the exit status."""
    try:
        _put_together(workers, finding, encoder)
    except ServiceError as error:
        sys.stderr.write(f"{error.message}\n")
        return REFUSED
    except Unforeseen as error:
        sys.stderr.write(str(error))
        return _ENDED
    except BrokenPipeError:
        return _ENDED
    return 0


def main() -> None:
    """Export, and end."""
    os.nice(_NICENESS)
    widen(_STANDARD_OUTPUT)
    database_url, errand = Errand.of(sys.stdin.buffer.read())
    # Everything that is needed is loaded before there are more processes.
    encoder = form_of(errand.form)()
    open_reports(database_url)
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
    workers: list[Worker] = []

    def leave(status: int) -> None:
        for worker in workers:
            worker.stop()
        sys.stderr.flush()
        # Whoever finds the keys may be waiting for whatever it is: nobody waits for it.
        os._exit(status)

    signal.signal(signal.SIGTERM, lambda *_: leave(_ENDED))
    for _ in range(_WORKERS):
        workers.append(Worker(database_url, errand, workers))
    finding = _Finding(database_url, errand, workers)
    finding.start()
    leave(_exported(workers, finding, encoder))


if __name__ == "__main__":
    main()
