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
from service.interactions import outcomes
from service.interactions.calls import Principal
from service.interactions.feed import Feed
from service.interactions.imported import is_adopted
from service.interactions.inquiry import Gone, ask, is_word
from service.interactions.media import MediaKeeper
from service.interactions.readers import Readers
from service.interactions.render import of_record
from service.interactions.resolve import Resolver
from service.interactions.timeline import was_rebuilt, without_history
from service.store.records import Outcome, Record, Usage, now
from service.store.store import Store
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment, Deployments
from service.wire import codec, ids

logger = logging.getLogger(__name__)

#: Seconds that a delete waits for upstream's own delete, whose result changes nothing here.
_UPSTREAM_DELETE: Final = 5.0


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
        self._media = media

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
        record = await self._resolver.resolve(principal, reference)
        if not record.terminal:
            record = await self.refreshed(record, headers)
        return record, of_record(record)

    async def request(self, record: Record) -> dict[str, Any]:
        """The request as the client sent it."""
        raw = await self._store.request_of(record.id)
        return {} if raw is None else codec.loads(raw)

    async def feed(self, principal: Principal, reference: str) -> Feed | None:
        """The live events of an interaction that this process is reading, from the first one on."""
        record = await self._resolver.resolve(principal, reference)
        return self._readers.feed(record.id)

    async def refreshed(self, record: Record, headers: bytes = b"") -> Record:
        """The record with upstream's latest word in it; raises :class:`NotFound` when it was deleted meanwhile."""
        reply = await self._ask(record, headers)
        return record if reply is None else await self._take_over(record, reply)

    async def cancel(
        self, principal: Principal, reference: str, headers: bytes = b""
    ) -> tuple[Record, dict[str, Any]]:
        """Cancel a running background interaction; raises :class:`FailedPrecondition` for any other (contract 6)."""
        record = await self.find(principal, reference)
        deployment = self._deployments.by_id(record.deployment_id)
        if record.terminal or not record.background or record.upstream_id is None or deployment is None:
            raise FailedPrecondition(
                f"The interaction {reference!r} cannot be cancelled: only background interactions that are still "
                f"running can, and this one has the status {record.status!r}."
            )
        try:
            reply = await self._client.cancel(deployment, record.upstream_id, headers=headers)
        except ServiceError as error:
            error.message = error.message.replace(record.upstream_id, reference)
            raise
        if is_word(reply, record.upstream_id):
            record = await self._take_over(record, reply)
        else:
            record = await self.refreshed(record, headers)
        return record, of_record(record)

    async def delete(self, principal: Principal, reference: str) -> Record:
        """Delete here for certain and upstream if it can: hidden at once, with its content kept only for follow-ups."""
        record = await self.find(principal, reference)
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
        if record.upstream_id is None or deployment is None or self._readers.feed(record.id) is not None:
            return None
        try:
            return await ask(self._client, deployment, record.upstream_id, headers)
        except Gone:
            # 404 right after create is normal for upstream (contract 6): it never means that our record is gone.
            return None

    async def _take_over(self, record: Record, reply: Reply) -> Record:
        if was_rebuilt(record.attempts):
            body = without_history(reply.body, await self.request(record))
            reply = replace(reply, raw=codec.dumps(body), body=body)
        if reply.raw == record.response:
            return record
        status = outcomes.status_of(reply.body)
        terminal = outcomes.is_terminal(status)
        moment = now()
        error = outcomes.error_of(reply.body)
        model = reply.body.get("model", reply.body.get("agent"))
        tier = reply.body.get("service_tier")
        outcome = Outcome(
            id=record.id,
            deployment_id=record.deployment_id,
            upstream_id=record.upstream_id,
            upstream_stored=record.upstream_stored,
            status=status,
            model=model if isinstance(model, str) else record.model,
            service_tier=tier if isinstance(tier, str) else None,
            http_status=reply.status,
            error_code=error[0] if error else None,
            error_message=error[1] if error else None,
            attempts=record.attempts,
            updated_at=moment,
            first_byte_at=record.first_byte_at,
            completed_at=moment if terminal else None,
            usage=outcomes.usage_of(reply.body) if terminal and not is_adopted(record.attempts) else Usage(),
        )
        media_due = self._media.due(reply.raw) if self._media is not None and terminal else None
        await self._store.finish(outcome, reply.raw, media_due=media_due)
        if self._media is not None and media_due is not None:
            self._media.keep(record.id, record.project_id)
        found = await self._store.find(record.project_id, record.id)
        if found is None:
            raise NotFound(f"The interaction {ids.to_text(record.id)!r} was deleted.")
        return found


def _usage_detail(record: Record) -> str | None:
    if record.response is None or (record.http_status or 0) >= 300 or is_adopted(record.attempts):
        return None
    usage = codec.loads(record.response).get("usage")
    return orjson.dumps(usage).decode() if isinstance(usage, dict) else None
