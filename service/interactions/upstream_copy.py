"""Upstream's copy of a deleted interaction goes as well, if upstream lets it: when the run has ended, not before.

A delete does not end a run (contract 3.4): it goes on, and is billed. So what runs in the background is followed to its
end though it is deleted, and its usage is settled; upstream's copy is deleted after that.
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


class UpstreamCopy:
    """Deletes upstream's copies; never raises for what upstream says to it."""

    def __init__(self, store: Store, client: GeminiClient, deployments: Deployments) -> None:
        self._store = store
        self._client = client
        self._deployments = deployments

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
