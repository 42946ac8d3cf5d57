"""Usage that upstream did not tell with the end (contract 8): asked for later, a bounded number of times."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from service.errors import ServiceError
from service.interactions import outcomes
from service.interactions.deadlines import Deadlines
from service.interactions.ending import assembled
from service.interactions.inquiry import Gone, ask
from service.store.records import USAGE_MISSING, Record, Usage
from service.store.store import Store
from service.upstream.client import GeminiClient
from service.upstream.deployments import Deployments
from service.upstream.routing.router import Router
from service.wire import codec, ids

logger = logging.getLogger(__name__)

#: How often it is asked for; the pauses between grow.
TRIES: Final = 8
_AT_ONCE: Final = 8
_MOST: Final = 64


class LateUsage:
    """One per process. ``interval`` is the number of seconds before the second try."""

    def __init__(
        self,
        store: Store,
        client: GeminiClient,
        deployments: Deployments,
        deadlines: Deadlines,
        router: Router,
        interval: float,
    ) -> None:
        self._store = store
        self._router = router
        self._client = client
        self._deployments = deployments
        self._deadlines = deadlines
        self._pause = int(interval * 1_000_000)
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def fetch_due(self) -> None:
        """Ask for what is due; raises :class:`~service.errors.ServiceUnavailable`."""
        due = await self._store.held.usage_due(self._deadlines.remit(), self._pause, _MOST)
        await asyncio.gather(*(self._fetch(key, tries) for key, tries in due))

    async def settle(self, record: Record) -> bool:
        """Ask once for the usage of an ended interaction, and make it final; whether there is nothing left to ask.

        Raises :class:`~service.errors.ServiceUnavailable` when the store cannot take it.
        """
        if not record.terminal:
            # Whoever noted that has lost the interaction before it ended; who ends it may rely on the note.
            return False
        deployment = self._deployments.by_id(record.deployment_id)
        if (
            record.usage_state != USAGE_MISSING
            or record.upstream_id is None
            or deployment is None
            or not record.upstream_stored
        ):
            return True
        try:
            reply = await ask(self._client, deployment, record.upstream_id)
        except Gone:
            await self._settle_early(record)
            return True
        usage = None if reply is None else outcomes.ended_usage(reply.body, record.status)
        if reply is None or usage is None:
            return False
        told = outcomes.usage_of(reply.body, cut=record.status == outcomes.CANCELLED)
        await self._take(record, usage, told)
        return True

    async def _settle_early(self, record: Record) -> None:
        """Take what the events told before the end, where upstream tells no more; it is marked as partial."""
        told = (await assembled(self._store.events, record)).told
        if (usage := told.usage) is not None:
            await self._take(record, usage, outcomes.usage_of({"usage": usage}, cut=True))

    async def _take(self, record: Record, usage: dict[str, Any], told: Usage) -> None:
        # Upstream was asked for a while: somebody else may have made it final.
        found = await self._store.find_held(record.id)
        if found is None or found[0].usage_state != USAGE_MISSING:
            return
        response = None
        if record.response is not None and (record.http_status or 0) < 300:
            response = codec.dumps({**codec.loads(record.response), "usage": usage})
        await self._store.held.settle_usage(record.id, told, response)
        self._router.spent(record.deployment_id, told.total_tokens)

    async def _fetch(self, key: bytes, tries: int) -> None:
        async with self._free:
            try:
                if await self._is_over(key, last=tries >= TRIES):
                    await self._store.held.forget_usage(key)
            except ServiceError as error:
                logger.info("the usage of %s is asked for later: %s", ids.to_text(key), error)

    async def _is_over(self, key: bytes, *, last: bool) -> bool:
        try:
            found = await self._store.find_held(key)
            if found is None or await self.settle(found[0]):
                return True
            if last and found[0].terminal:
                await self._settle_early(found[0])
            return last
        except ServiceError as error:
            if not last:
                raise
            logger.warning("the usage of %s is not asked for any more: %s", ids.to_text(key), error)
            return True
