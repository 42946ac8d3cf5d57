"""Adoption: interactions that this store has never seen are looked for at the upstreams, and taken in once.

What is found becomes the asking project's, with its ancestors: up to the root, to one that the project has, or to one
that upstream no longer has, where the chain then begins. Ancestors are written first, one after the other, so a crash
leaves a shorter chain that is right, and that the next request goes on with. What any project has, deleted and unstored
interactions included, is nobody else's to find (promise P6); upstream is asked for it all the same, so that neither the
answer nor an outage tells a foreign id from a missing one.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from time import monotonic
from typing import Final

from service.errors import FailedPrecondition, ServiceUnavailable
from service.interactions.calls import Principal
from service.interactions.imported import adopted
from service.interactions.media import MediaKeeper
from service.interactions.readers import Readers
from service.interactions.search import Copy, Search
from service.store.adoption import Adopted, Holder
from service.store.records import Record
from service.store.store import Store

#: Upstream's ids are opaque (contract 3.3); what cannot be one makes no call.
_PLAUSIBLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.~=+:-]{5,511}", re.ASCII)
#: Seconds for which nobody is asked again for what was not there, and how many such answers are remembered.
_ABSENT_FOR: Final = 5.0
_ABSENT_KEPT: Final = 4_096
#: Adoptions at a time; more are refused rather than kept waiting.
_AT_ONCE: Final = 64
#: A chain that is longer or larger is not held in memory.
_MOST_LINKS: Final = 10_000
_MOST_BYTES: Final = 256 * 1024 * 1024
#: How often an import is begun again when somebody else's came in between.
_TRIES: Final = 3

_Name = tuple[bytes, str]


class Adoption:
    """Finds and takes in interactions; requests for the same one share the work, which outlives its callers."""

    def __init__(
        self, store: Store, search: Search, readers: Readers, media: MediaKeeper | None = None
    ) -> None:
        self._store = store
        self._search = search
        self._readers = readers
        self._media = media
        self._running: dict[_Name, asyncio.Task[Record | None]] = {}
        self._absent = _Absent()

    async def adopt(self, principal: Principal, upstream_id: str) -> Record | None:
        """The interaction as this project's own from now on; None when there is none that it may have.

        To be asked when the project's own interactions have none of that id. Raises :class:`ServiceUnavailable` when
        some upstream could not be asked, or the store cannot take it, and :class:`FailedPrecondition` for a chain that
        is too long.
        """
        name = principal.project_id, upstream_id
        if _PLAUSIBLE.fullmatch(upstream_id) is None or name in self._absent:
            return None
        task = self._running.get(name)
        if task is None:
            if len(self._running) >= _AT_ONCE:
                raise ServiceUnavailable(
                    "Too many unknown interactions are being looked for at once.", retry_after=1
                )
            task = asyncio.create_task(self._adopt(principal, upstream_id), name="adoption")
            self._running[name] = task
            task.add_done_callback(lambda done: self._ended(name, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop what runs; what was written stays, and the next request for it goes on from there."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, name: _Name, task: asyncio.Task[Record | None]) -> None:
        del self._running[name]
        # Looking at the exception is enough: whoever still waits gets it.
        if not task.cancelled() and task.exception() is None and task.result() is None:
            self._absent.add(name)

    async def _adopt(self, principal: Principal, upstream_id: str) -> Record | None:
        project_id = principal.project_id
        # A stream's upstream id is told a moment before it is committed.
        if (key := self._readers.key_of(upstream_id)) is not None:
            return await self._store.find(project_id, key)
        if _own(await self._store.holders(upstream_id), project_id) is not None:
            return await self._store.find_by_upstream_id(project_id, upstream_id)
        copy = await self._search.everywhere(upstream_id)
        if copy is None:
            return None
        for _ in range(_TRIES):
            if await self._store.holders(upstream_id):
                return await self._store.find_by_upstream_id(project_id, upstream_id)
            if not await self._import(principal, copy):
                return None
        raise ServiceUnavailable(
            f"The interaction {upstream_id!r} is being taken in by somebody else; try again.", retry_after=1
        )

    async def _import(self, principal: Principal, copy: Copy) -> bool:
        """Write a copy and its ancestors; False when it follows on what another project has.

        Raises :class:`ServiceUnavailable` when upstream cannot be asked for an ancestor: nothing is written then.
        """
        links = [copy]
        size = len(copy.reply.raw)
        names = {copy.upstream_id}
        parent: Holder | None = None
        while (name := links[-1].previous_upstream_id) is not None and name not in names:
            if _PLAUSIBLE.fullmatch(name) is None:
                break
            if holders := await self._store.holders(name):
                parent = _own(holders, principal.project_id)
                if parent is None:
                    return False
                break
            ancestor = await self._search.at(copy.deployment, name)
            if ancestor is None:
                break
            names.add(name)
            links.append(ancestor)
            size += len(ancestor.reply.raw)
            _check_size(copy.upstream_id, len(links), size)
        for link in reversed(links):
            row = adopted(link, parent, principal)
            media_due = None if self._media is None else self._media.due(row.request, row.response)
            await self._store.adopt(row, media_due=media_due)
            if self._media is not None and media_due is not None:
                self._media.keep(row.id, row.project_id)
            parent = _holder(row)
        return True


class _Absent:
    """Which ids were not there for a project a moment ago."""

    def __init__(self) -> None:
        self._until: OrderedDict[_Name, float] = OrderedDict()

    def __contains__(self, name: _Name) -> bool:
        until = self._until.get(name)
        return until is not None and monotonic() < until

    def add(self, name: _Name) -> None:
        """Remember one; the oldest is forgotten when there are too many."""
        self._until[name] = monotonic() + _ABSENT_FOR
        self._until.move_to_end(name)
        if len(self._until) > _ABSENT_KEPT:
            self._until.popitem(last=False)


def _own(holders: list[Holder], project_id: bytes) -> Holder | None:
    return next((holder for holder in holders if holder.project_id == project_id), None)


def _holder(row: Adopted) -> Holder:
    return Holder(row.id, row.project_id, row.root_id, row.depth, row.status)


def _check_size(upstream_id: str, links: int, size: int) -> None:
    if links > _MOST_LINKS or size > _MOST_BYTES:
        raise FailedPrecondition(
            f"The interaction {upstream_id!r} is not in this store, and the conversation before it is too long to be "
            f"taken in: at most {_MOST_LINKS} interactions and {_MOST_BYTES} bytes are."
        )
