"""The one interface behind which the two databases differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from service.store.codec import Codec
from service.store.script import ScriptMaker
from service.store.statement import BatchStatement, Query

#: One member for each column of the statement; a packing statement takes ``(key, body, ...)`` and
#: has the columns ``key, codec, size, body, ...``.
Row = tuple[Any, ...]
#: The writes of one transaction, in :data:`~service.store.statements.BATCH_ORDER`. No interaction's writes build on one
#: another inside a batch: whether one kind sees another's rows is the database's business.
Batch = Sequence[tuple[BatchStatement, Sequence[Row]]]
#: Hears what became of a batch: the ids of outcomes that could not be written, because another process holds the
#: interaction (True) or because there is none (False), or why nothing of it was.
Told = Callable[[Mapping[bytes, bool] | Exception], None]

#: The topic of a hint that comes from nobody: others may have been lost until now.
MISSED: Final = "missed"


class StoreUnavailable(Exception):
    """The database cannot take the batch now: locked, full, or not reachable. The same batch may be sent again."""


class RowRefused(Exception):
    """The database refuses a row of the batch for what it holds; nothing of the batch was written."""


class Backend(Protocol):
    """A database: durable commits of whole batches, and reads."""

    #: Whether hints reach other processes.
    has_hints: bool
    #: Batches that may ever be committed at the same time.
    most_at_once: int

    @property
    def batches_at_once(self) -> int:
        """Batches that may be committed at the same time now."""

    def widen(self) -> None:
        """Have one more at a time committed from some moment on, where the database can: somebody waits for it."""

    async def start(self) -> None:
        """Open connections; raises :class:`~service.errors.DatabaseUnusable` when the database is not usable."""

    async def close(self) -> None:
        """Finish what was handed in and close every connection."""

    #: When this process was the only one on the database, as a key: whatever has a smaller one was left behind.
    alone_since: bytes | None

    def commit(self, batch: Batch, told: Told) -> None:
        """Write the batch as one durable transaction.

        ``told`` is called once, later and in the event loop, as a rule in the turn of it in which that is known: with
        :class:`StoreUnavailable` or :class:`RowRefused` where it was not written. A backend that is closed tells
        nothing.
        """

    async def fetch(self, query: Query, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """All rows of a query; raises :class:`StoreUnavailable`."""

    async def give_back(self, *, whole: bool) -> int:
        """Give free space back to the file system, with ``whole`` all of it; how many bytes that were.

        Raises :class:`StoreUnavailable`. Where the database does this by itself, nothing happens.
        """

    async def take(
        self, query: Query, parameters: Mapping[str, Any], *, apart: bool = False
    ) -> Sequence[Sequence[Any]]:
        """What a statement that writes returns, after it is committed; raises :class:`StoreUnavailable`.

        For the few statements that are no part of a batch because their caller needs the rows. ``apart`` gives it a
        connection of its own, made for it, where there are several: nothing that hangs holds it up. It fails when it
        takes longer than some seconds there, and runs no longer then, though its caller has left before.
        """

    async def run(self, script: ScriptMaker) -> int | None:
        """Run a script as one transaction; its result, or None while another process runs scripts here.

        Scripts derive what can be derived again: a loss of power may take the last ones back, whole.

        Raises :class:`RowRefused`, and :class:`StoreUnavailable`, after which it may be run again.
        """

    def place_of(self, upstream_id: str) -> int:
        """Where an upstream id that is written now stands in the index that finds interactions by it."""

    async def announce(self, topic: str) -> bool:
        """Hint to every process on this database that there is news; may be lost, never raises.

        Whether the database has taken it.
        """

    def on_news(self, callback: Callable[[str], None]) -> None:
        """Call this back with the topic of each hint, until the backend is closed; with :data:`MISSED` as well."""


async def committed(backend: Backend, batch: Batch) -> Mapping[bytes, bool]:
    """Commit a batch and wait for it; raises what :meth:`Backend.commit` tells."""
    reply: asyncio.Future[Mapping[bytes, bool]] = asyncio.get_running_loop().create_future()
    backend.commit(batch, partial(answer, reply))
    return await reply


def answer(reply: asyncio.Future[Any], result: Any) -> None:
    """Hand a result, or the exception that stands for it, to whoever still waits."""
    if reply.done():
        return
    if isinstance(result, Exception):
        reply.set_exception(result)
    else:
        reply.set_result(result)


def packed(batch: Batch, codec: Codec) -> Batch:
    """The batch ready for the driver: all bodies compressed, in one call for the whole batch."""
    bodies = iter(codec.pack([row[1] for statement, rows in batch if statement.packs for row in rows]))
    return [
        (statement, [(row[0], *next(bodies), *row[2:]) for row in rows] if statement.packs else rows)
        for statement, rows in batch
    ]
