"""The process of one long export: reads what is asked on standard input, and writes the export on standard output.

It has a database connection and an interpreter of its own, so that an export costs the creates of the service neither,
and gives way to them for a processor. When whoever started it is gone, so is its standard output, and it ends.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson

from service.audit import filters
from service.audit.encoding import Encoder, form_of
from service.audit.export import Export, ahead
from service.audit.filters import Filters
from service.audit.lines import Whole
from service.errors import ServiceError
from service.store.codec import Codec
from service.store.engine import open_reports

#: The exit status of an export that could not go on; the last line on standard error says why.
REFUSED: Final = 3
_STANDARD_OUTPUT: Final = 1
_PIPE: Final = 1024 * 1024
#: How far it stands behind the service for a processor.
_NICENESS: Final = 10
#: Its threads wait for one another anyway, and need not be made to take turns.
_SWITCH_SECONDS: Final = 0.1
#: Objects that are made before those that are not freed by themselves are looked for: nearly all are.
_COLLECT_AFTER: Final = 200_000


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


async def _export(database_url: str, errand: Errand, encoder: Encoder) -> None:
    reports = open_reports(database_url, alone=True)
    await reports.start()
    try:
        parts = Export(reports, Codec()).parts(
            errand.project_id, errand.filters(), errand.after, with_media=errand.with_media
        )
        # Nothing is written before there is something: what cannot even begin is an error, and no broken export.
        waiting = encoder.begin()
        async for part in ahead(parts):
            await asyncio.to_thread(_add, encoder, part, waiting)
            waiting = b""
        _write(waiting + encoder.end())
    finally:
        await reports.close()


def _add(encoder: Encoder, part: Sequence[Whole], waiting: bytes) -> None:
    data = encoder.add(part)
    _write(waiting)
    _write(data)


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(_STANDARD_OUTPUT, left) :]


def _widen() -> None:
    """Let standard output hold more, so that it is waited for less often; where the system knows how."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(_STANDARD_OUTPUT, fcntl.F_SETPIPE_SZ, _PIPE)


def main() -> int:
    """Export; returns the exit status."""
    os.nice(_NICENESS)
    _widen()
    database_url, errand = Errand.of(sys.stdin.buffer.read())
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        asyncio.run(_export(database_url, errand, form_of(errand.form)()))
    except ServiceError as error:
        sys.stderr.write(f"{error.message}\n")
        return REFUSED
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
