"""Erases the content of deleted interactions: after each delete, and by a sweep for what a crash has left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from service.store import deletion
from service.store.entries import Write
from service.store.statement import Fetch
from service.store.webhooks import FORGET_WEBHOOKS
from service.store.writer import Writer

#: Seconds that an erase waits for the database; it is written later all the same, or swept.
_PATIENCE: Final = 60.0
#: Looks at a time, so that many deletes at once leave the connections to those that wait for an answer.
_READS: Final = 2
_FIRST_KEY: Final = bytes(16)


class Eraser:
    """Any number of processes may erase at once; what one has done changes nothing for another."""

    def __init__(self, fetch: Fetch, writer: Writer) -> None:
        self._fetch = fetch
        self._writer = writer
        self._reading = asyncio.Semaphore(_READS)

    async def erase(self, key: bytes, at: int) -> None:
        """Erase a deleted interaction, and everything that was kept for its sake, unless something needs it.

        Looks again after what it erased is committed: of two processes that erase the last two follow-ups of a deleted
        interaction at the same moment, the one that commits later finds that nothing needs it any more. Raises
        :class:`~service.errors.ServiceError` when the database cannot be used.
        """
        erased: set[bytes] = set()
        starts = [key]
        while starts:
            async with self._reading:
                found = await self._fetch(deletion.ERASABLE, {"id": starts[-1]})
            if found:
                await self._write([row[0] for row in found], at)
                erased.update(row[0] for row in found)
                starts += {base for _, base in found if base is not None} - erased
            else:
                starts.pop()

    async def sweep(self, at: int) -> int:
        """Erase everything that is deleted and that nothing needs; raises as :meth:`erase` does.

        Returns how many interactions it found so.
        """
        erased = 0
        after = _FIRST_KEY
        while page := await self._fetch(deletion.WAITING, {"after": after}):
            free = [key for key, needed, *_ in page if not needed]
            # The words of what has expired are kept for nobody, and nobody is told of it any more.
            await self._forget([key for key, needed, *_ in page if needed])
            await self._write(free, at)
            for key, needed, previous, base in page:
                if not needed and (previous is not None or base is not None):
                    # What was kept for its sake alone goes with it.
                    await self.erase(key, at)
                    if base is not None:
                        await self.erase(base, at)
            erased += len(free)
            after = page[-1][0]
        return erased

    async def _forget(self, keys: Sequence[bytes]) -> None:
        if keys:
            unneeded = (deletion.DELETE_DOCUMENTS, FORGET_WEBHOOKS)
            writes: list[Write] = [(statement, (key,)) for key in keys for statement in unneeded]
            await self._writer.put(*writes, patience=_PATIENCE)

    async def _write(self, keys: Sequence[bytes], at: int) -> None:
        writes: list[Write] = []
        for key in keys:
            writes.append((deletion.ERASE, (key, at)))
            writes += [(statement, (key,)) for statement in (*deletion.CONTENT, FORGET_WEBHOOKS)]
        if writes:
            await self._writer.put(*writes, patience=_PATIENCE)
