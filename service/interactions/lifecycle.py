"""What can be done with an interaction after its create: get, cancel, delete.

Anything terminal is answered from the store alone. What is not terminal is upstream's to tell: it is asked, and what
it says is committed before it is passed on. When upstream cannot be asked, the store's last word is the answer.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any, Final

import orjson

from service.errors import FailedPrecondition, NotFound, ServiceError, UpstreamError
from service.interactions.calls import Principal
from service.interactions.ending import assembled
from service.interactions.imported import is_adopted
from service.interactions.inquiry import Gone, ask, is_word
from service.interactions.media import MediaKeeper
from service.interactions.readers import Readers
from service.interactions.render import of_record, timestamp
from service.interactions.resolve import Resolver
from service.interactions.taking_over import TakeOver
from service.store.records import Record, now
from service.store.store import Store
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment, Deployments
from service.wire import codec, ids

logger = logging.getLogger(__name__)

#: Seconds that a delete waits for upstream's own delete, whose result changes nothing here.
_UPSTREAM_DELETE: Final = 5.0
#: How often, and with how many seconds between, another process is looked after that is to cancel a stream.
_CANCEL_LOOKS: Final = 100
_CANCEL_LOOK: Final = 0.1


class Lifecycle:
    """Reads, cancels and deletes stored interactions; every call is scoped by the caller's project."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        client: GeminiClient,
        readers: Readers,
        resolver: Resolver,
        media: MediaKeeper | None = None,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._client = client
        self._readers = readers
        self._resolver = resolver
        self._take_over = TakeOver(store, media)

    async def find(self, principal: Principal, reference: str, member: str = "id") -> Record:
        """The record, with the upstream id that its reader has seen but may not have committed yet.

        Raises :class:`~service.errors.NotFound` naming the ``member`` of the request that holds the reference.
        """
        record = await self._resolver.resolve(principal, reference, member)
        feed = self._readers.feed(record.id) if record.upstream_id is None else None
        return record if feed is None else replace(record, upstream_id=feed.upstream_id)

    async def get(
        self, principal: Principal, reference: str, headers: bytes = b""
    ) -> tuple[Record, dict[str, Any]]:
        """The interaction in steps form."""
        return await self.told(await self._resolver.resolve(principal, reference), headers)

    async def told(self, record: Record, headers: bytes = b"") -> tuple[Record, dict[str, Any]]:
        """An interaction that was found before, as it is now, in steps form."""
        if not record.terminal:
            record = await self.refreshed(record, headers)
        return record, of_record(record)

    async def current(self, record: Record) -> Record:
        """The record as it stands in the store; raises :class:`NotFound` when it was deleted meanwhile."""
        found = await self._store.find(record.project_id, record.id)
        if found is None:
            raise NotFound(f"The interaction {ids.to_text(record.id)!r} was deleted.")
        return found

    async def request(self, record: Record) -> dict[str, Any]:
        """The request as the client sent it."""
        raw = await self._store.request_of(record.id)
        return {} if raw is None else codec.loads(raw)

    async def refreshed(self, record: Record, headers: bytes = b"") -> Record:
        """The record with upstream's latest word in it; raises :class:`NotFound` when it was deleted meanwhile."""
        reply = await self._ask(record, headers)
        return await self.current(record) if reply is None else await self._take_over.word(record, reply)

    async def cancel(
        self, principal: Principal, reference: str, headers: bytes = b""
    ) -> tuple[Record, dict[str, Any]]:
        """Cancel what runs in the background or is being streamed; any other cannot be (contract 6).

        Raises :class:`FailedPrecondition` for what cannot be cancelled or has ended.
        """
        record = await self.find(principal, reference)
        if not record.terminal and record.stream:
            if await self._reader_cancels(record):
                return await self.told(await self.current(record))
            if not record.background:
                # Nobody reads it any more, and upstream cannot end it.
                record = await self._take_over.end(record, await self._as_cancelled(record))
                return record, of_record(record)
        deployment = self._deployments.by_id(record.deployment_id)
        if record.terminal or not record.background or record.upstream_id is None or deployment is None:
            raise FailedPrecondition(
                f"The interaction {reference!r} cannot be cancelled: only streams and background interactions that "
                f"are still running can, and this one has the status {record.status!r}."
            )
        try:
            reply = await self._client.cancel(deployment, record.upstream_id, headers=headers)
        except ServiceError as error:
            error.message = error.message.replace(record.upstream_id, reference)
            raise
        if is_word(reply, record.upstream_id):
            record = await self._take_over.word(record, reply)
        else:
            record = await self.refreshed(record, headers)
        return record, of_record(record)

    async def _reader_cancels(self, record: Record) -> bool:
        """Have whoever reads the stream end it, here or in another process; whether that has happened."""
        if await self._readers.cancel(record.id):
            return True
        if not await self._store.events.is_read(record.id):
            return False
        await self._store.events.wish_cancel(record.id)
        for _ in range(_CANCEL_LOOKS):
            await asyncio.sleep(_CANCEL_LOOK)
            if (await self.current(record)).terminal:
                return True
        return False

    async def _as_cancelled(self, record: Record) -> dict[str, Any]:
        told = await assembled(self._store.events, record)
        so_far = of_record(record) if record.response is not None else {}
        return {**so_far, **told.result(), "updated": timestamp(now()), "status": "cancelled"}

    async def delete(self, principal: Principal, reference: str) -> Record:
        """Delete here for certain and upstream if it can: hidden at once, with its content kept only for follow-ups.

        Raises :class:`FailedPrecondition` for what is under a legal hold.
        """
        record = await self.find(principal, reference)
        if holds := await self._store.holds.on(record.id):
            reason = f" ({holds[0].reason})" if holds[0].reason else ""
            raise FailedPrecondition(
                f"The interaction {reference!r} is under a legal hold{reason} and cannot be deleted. Release the hold "
                "first."
            )
        await self._store.delete(record.id, now(), _usage_detail(record))
        deployment = self._deployments.by_id(record.deployment_id)
        if deployment is not None and record.upstream_id is not None and record.upstream_stored:
            await self._delete_upstream(deployment, record, record.upstream_id)
        return record

    async def _delete_upstream(self, deployment: Deployment, record: Record, upstream_id: str) -> None:
        try:
            async with asyncio.timeout(_UPSTREAM_DELETE):
                await self._client.delete(deployment, upstream_id)
        except (ServiceError, TimeoutError) as error:
            if not isinstance(error, UpstreamError) or error.status not in (404, 410):
                logger.info("upstream kept its copy of a deleted interaction: %s", error)
                return
        try:
            await self._store.mark_upstream_gone(record.id, now())
        except ServiceError as error:
            # The delete itself is done and will be answered so.
            logger.warning("a deleted interaction could not be marked as gone upstream: %s", error)

    async def _ask(self, record: Record, headers: bytes) -> Reply | None:
        """Upstream's word on an unfinished interaction; None when it has none or this process is reading it."""
        deployment = self._deployments.by_id(record.deployment_id)
        if record.upstream_id is None or deployment is None or await self._is_read(record):
            return None
        try:
            return await ask(self._client, deployment, record.upstream_id, headers)
        except Gone:
            # 404 right after create is normal for upstream (contract 6): it never means that our record is gone.
            return None

    async def _is_read(self, record: Record) -> bool:
        if self._readers.feed(record.id) is not None:
            return True
        return record.stream and await self._store.events.is_read(record.id)


def _usage_detail(record: Record) -> str | None:
    if record.response is None or (record.http_status or 0) >= 300 or is_adopted(record.attempts):
        return None
    usage = codec.loads(record.response).get("usage")
    return orjson.dumps(usage).decode() if isinstance(usage, dict) else None
