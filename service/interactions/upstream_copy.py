"""Upstream's copy of a deleted interaction goes as well, if upstream lets it: when the run has ended, not before.

A delete does not end a run (contract 3.4): it goes on, and is billed. So what runs in the background is followed to its
end though it is deleted, and its usage is settled; upstream's copy is deleted after that. So it is with a create that
upstream has not answered yet: only the answer names the copy.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from service.errors import ServiceError, UpstreamError
from service.store.records import Record, now
from service.store.store import Store
from service.upstream.client import GeminiClient
from service.upstream.deployments import Deployments

logger = logging.getLogger(__name__)

#: Seconds that a delete waits for upstream's own delete, whose result changes nothing here.
_PATIENCE: Final = 5.0
#: Seconds between the first two looks whether a create has its answer, between later ones, and for which it is looked.
_LOOK: Final = 0.25
_LONGEST_LOOK: Final = 10.0
_LOOKED: Final = 3 * 3_600.0


class UpstreamCopy:
    """Deletes upstream's copies; never raises for what upstream says to it."""

    def __init__(self, store: Store, client: GeminiClient, deployments: Deployments) -> None:
        self._store = store
        self._client = client
        self._deployments = deployments
        self._awaiting: dict[bytes, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Look after creates no more that have no answer yet; upstream keeps what comes of them."""
        for task in self._awaiting.values():
            task.cancel()
        await asyncio.gather(*self._awaiting.values(), return_exceptions=True)

    async def delete(self, record: Record) -> None:
        """Delete the copy of a deleted interaction, unless its run still goes on."""
        deployment = self._deployments.by_id(record.deployment_id)
        if (
            deployment is None
            or record.upstream_id is None
            or not record.upstream_stored
            or (record.background and not record.terminal)
        ):
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._client.delete(deployment, record.upstream_id)
        except (ServiceError, TimeoutError) as error:
            if not isinstance(error, UpstreamError) or error.status not in (404, 410):
                logger.info("upstream kept its copy of a deleted interaction: %s", error)
                return
        try:
            await self._store.mark_upstream_gone(record.id, now())
        except ServiceError as error:
            # The delete itself is done.
            logger.warning("a deleted interaction could not be marked as gone upstream: %s", error)

    async def delete_if_deleted(self, key: bytes) -> None:
        """The same for a run that has ended, if it was deleted meanwhile."""
        try:
            found = await self._store.find_held(key)
        except ServiceError as error:
            logger.info("upstream keeps its copy of what may be deleted: %s", error)
            return
        if found is not None and found[1] and found[0].upstream_gone_at is None:
            await self.delete(found[0])

    def delete_when_answered(self, record: Record) -> None:
        """The same for a foreground create that has no answer yet, in whichever process, with nobody waiting for it."""
        if record.background or record.id in self._awaiting:
            # Who follows a run in the background deletes its copy at its end.
            return
        task = asyncio.get_running_loop().create_task(self._delete_when_answered(record.id), name="copy")
        self._awaiting[record.id] = task
        task.add_done_callback(lambda _: self._awaiting.pop(record.id, None))

    async def _delete_when_answered(self, key: bytes) -> None:
        pause, waited = _LOOK, 0.0
        while waited < _LOOKED:
            await asyncio.sleep(pause)
            pause, waited = min(2 * pause, _LONGEST_LOOK), waited + pause
            try:
                found = await self._store.find_held(key)
            except ServiceError:
                continue
            if found is None or found[0].terminal:
                await self.delete_if_deleted(key)
                return
