"""The process of one long export: reads what is asked on standard input, and writes the export on standard output.

It has an interpreter and database connections of its own, so that an export costs the creates of the service neither,
and gives way to them for a processor. When whoever started it is gone, so is its standard output, and it ends.

It finds the keys, gives parts of them to a second process, makes others itself, and puts together what both have made,
in order. Between them goes nothing but what is written in the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from service import collector
from service.audit.encoding import form_of
from service.audit.errand import Errand
from service.audit.export import Export
from service.audit.export_worker import Making, Unforeseen, Worker, widen, write
from service.audit.portions import Encoder, Portion
from service.errors import ServiceError
from service.store.codec import Codec
from service.store.engine import open_reports

#: The exit status of an export that could not go on; the last line on standard error says why.
REFUSED: Final = 3
_ENDED: Final = 1
_STANDARD_OUTPUT: Final = 1
#: How far it stands behind the service for a processor.
_NICENESS: Final = 10
#: Parts that the worker is given before the first of them is taken, and portions of this process that wait for others.
_GIVEN: Final = 3
_OWN: Final = 3


async def _export(database_url: str, errand: Errand, encoder: Encoder, worker: Worker) -> None:
    """Write everything; raises :class:`ServiceError` or :class:`Unforeseen` when it could not go on."""
    reports = open_reports(database_url, alone=True)
    await reports.start()
    try:
        making = Making(reports, errand, encoder)
        packing = Codec()
        export = Export(reports, packing, errand.late_figures(packing))
        found = export.keys(errand.project_id, errand.filters(), errand.after, with_media=errand.with_media)
        # Nothing is written before there is something: what cannot even begin is an error, and no broken export.
        waiting = encoder.begin()
        async with aclosing(found), aclosing(_portions(found, making, worker)) as portions:
            # To wait here holds nobody up: nothing else goes on in this process.
            async for portion in portions:
                data = encoder.add(portion)
                write(_STANDARD_OUTPUT, waiting)
                write(_STANDARD_OUTPUT, data)
                waiting = b""
        write(_STANDARD_OUTPUT, waiting + encoder.end())
    finally:
        await reports.close()


async def _portions(
    found: AsyncIterator[list[bytes]], making: Making, worker: Worker
) -> AsyncGenerator[Portion, None]:
    """What is made of parts, in their order: this process makes some while the next one is not ready."""
    #: Portions that are this process's own, and nothing for those of the worker.
    ahead: deque[Portion | None] = deque()
    given, more = 0, True
    while more or ahead:
        while more and given < _GIVEN:
            keys = await anext(found, None)
            if keys is None:
                more = False
                break
            worker.give(keys)
            ahead.append(None)
            given += 1
        # Who has to put all of them together makes fewer.
        if more and len(ahead) - given < _OWN and ahead[0] is None and not worker.is_ready():
            keys = await anext(found, None)
            if keys is None:
                more = False
                continue
            ahead.append(await making.portion(keys))
        elif ahead:
            portion = ahead.popleft()
            if portion is None:
                portion = worker.take()
                given -= 1
            if portion.count:
                yield portion


def _exported(database_url: str, errand: Errand, encoder: Encoder, worker: Worker) -> int:
    """Export; the exit status."""
    try:
        asyncio.run(_export(database_url, errand, encoder, worker))
    except ServiceError as error:
        sys.stderr.write(f"{error.message}\n")
        return REFUSED
    except Unforeseen as error:
        sys.stderr.write(str(error))
        return _ENDED
    except BrokenPipeError:
        return _ENDED
    return 0


def main() -> int:
    """Export; returns the exit status."""
    os.nice(_NICENESS)
    widen(_STANDARD_OUTPUT)
    database_url, errand = Errand.of(sys.stdin.buffer.read())
    # What is needed is loaded before there is another process.
    encoder = form_of(errand.form)(errand.after)
    open_reports(database_url)
    collector.settle()
    worker = Worker(database_url, errand)

    def leave(*_: object) -> None:
        worker.stop()
        # Whatever is being read is waited for by nobody.
        os._exit(_ENDED)

    signal.signal(signal.SIGTERM, leave)
    try:
        return _exported(database_url, errand, encoder, worker)
    finally:
        worker.stop()


if __name__ == "__main__":
    sys.exit(main())
