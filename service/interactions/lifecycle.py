"""What can be done with an interaction after its create: get, cancel, delete.

Anything terminal is answered from the store alone. What is not terminal is upstream's to tell: the process that holds
the interaction asks, and what upstream says is committed before it is passed on. When it cannot be asked, the store's
last word is the answer.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any, Final

import orjson

from service.errors import FailedPrecondition, NotFound, ServiceError, ServiceUnavailable, UpstreamError
from service.interactions.calls import Principal
from service.interactions.imported import is_adopted
from service.interactions.inquiry import cancel
from service.interactions.late_usage import LateUsage
from service.interactions.readers import Readers
from service.interactions.render import of_record, with_webhooks
from service.interactions.resolve import Resolver
from service.interactions.supervisor import Supervisor
from service.interactions.taking_over import TakeOver
from service.interactions.upstream_copy import UpstreamCopy
from service.store.kept_events import CANCEL
from service.store.records import USAGE_MISSING, Record, now
from service.store.store import Store
from service.upstream.client import GeminiClient
from service.upstream.deployments import Deployments
from service.wire import codec, ids

logger = logging.getLogger(__name__)

#: Seconds that a delete waits for the usage that upstream owes.
_SETTLING: Final = 5.0
#: How often, and with how many seconds between, another process is looked after that is to cancel a stream.
_CANCEL_LOOKS: Final = 100
_CANCEL_LOOK: Final = 0.1
#: After how many of these looks it is reminded.
_CANCEL_HINTS: Final = 10


class Lifecycle:
    """Reads, cancels and deletes stored interactions; every call is scoped by the caller's project."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        client: GeminiClient,
        readers: Readers,
        resolver: Resolver,
        supervisor: Supervisor,
        take_over: TakeOver,
        late_usage: LateUsage,
        upstream_copy: UpstreamCopy,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._client = client
        self._readers = readers
        self._resolver = resolver
        self._supervisor = supervisor
        self._cancellations = supervisor.cancellations
        self._take_over = take_over
        self._late_usage = late_usage
        self._upstream_copy = upstream_copy

    async def find(self, principal: Principal, reference: str, member: str = "id") -> Record:
        """The record, with the upstream id that its reader has seen but may not have committed yet.

        Raises :class:`~service.errors.NotFound` naming the ``member`` of the request that holds the reference.
        """
        return self._with_upstream_id(await self._resolver.resolve(principal, reference, member))

    async def find_recorded(self, principal: Principal, reference: str) -> Record:
        """The same, also of an interaction that was not to be stored and is recorded for audit; raises as that does."""
        key = ids.from_text(reference)
        record = None if key is None else await self._store.recall(principal.project_id, key)
        return await self.find(principal, reference) if record is None else self._with_upstream_id(record)

    def _with_upstream_id(self, record: Record) -> Record:
        feed = self._readers.feed(record.id) if record.upstream_id is None else None
        return record if feed is None else replace(record, upstream_id=feed.upstream_id)

    async def get(self, principal: Principal, reference: str) -> tuple[Record, dict[str, Any]]:
        """The interaction in steps form."""
        return await self.told(await self._resolver.resolve(principal, reference))

    async def told(self, record: Record) -> tuple[Record, dict[str, Any]]:
        """An interaction that was found before, as it is now, in steps form."""
        if not record.terminal:
            record = await self.refreshed(record)
        return record, await self._shown(record)

    async def current(self, record: Record) -> Record:
        """The record as it stands in the store; raises :class:`NotFound` when it was deleted meanwhile."""
        found = await self._store.recall(record.project_id, record.id)
        if found is None:
            raise NotFound(f"The interaction {ids.to_text(record.id)!r} was deleted.")
        return found

    async def request(self, record: Record) -> dict[str, Any]:
        """The request as the client sent it."""
        raw = await self._store.request_of(record.id)
        return {} if raw is None else codec.loads(raw)

    async def refreshed(self, record: Record) -> Record:
        """The record with upstream's latest word in it; raises :class:`NotFound` when it was deleted meanwhile."""
        await self._supervisor.look(record)
        return await self.current(record)

    async def cancel(
        self, principal: Principal, reference: str, headers: bytes = b""
    ) -> tuple[Record, dict[str, Any]]:
        """Cancel what runs in the background or is being streamed; any other cannot be (contract 6).

        Raises :class:`FailedPrecondition` for what cannot be cancelled or has ended, and :class:`ServiceUnavailable`
        while upstream has not answered the create: it has named nothing yet that it could cancel, and runs and bills
        what it has, so nobody is told before the answer that it was cancelled.
        """
        record = await self.find(principal, reference)
        if record.terminal or not (record.stream or record.background):
            raise _not_to_be_cancelled(reference, record)
        if not await self._cancellations.has_begun(record.id):
            raise ServiceUnavailable(
                f"Upstream has not answered the create of {reference!r} yet; cancel it again in a moment.",
                retry_after=1,
            )
        was_late = await self._cancellations.cancel_late(record.id)
        record = await self.find(principal, reference)
        if was_late and record.status == "cancelled":
            return record, await self._shown(record)
        if record.terminal:
            raise _not_to_be_cancelled(reference, record)
        try:
            if await self._cancellations.cancel_read(record.id, headers):
                return await self.told(await self.current(record))
        except ServiceError as error:
            error.message = error.message.replace(record.upstream_id or reference, reference)
            raise
        if not await self._supervisor.secure(record):
            ended = await self._cancelled_elsewhere(record)
            if ended is not None and ended.status != "cancelled":
                raise _not_to_be_cancelled(reference, ended)
            if ended is not None:
                return await self.told(ended)
        with self._cancellations.ending(record.id):
            if self._cancellations.reads(record.id):
                # It was taken up in this moment.
                return await self.cancel(principal, reference, headers)
            record = replace(await self.current(record), upstream_id=record.upstream_id)
            # What was running when this was asked for may have been cancelled meanwhile, for a wish that others heard.
            if record.status != "cancelled":
                await self._end(record, reference, headers, nowhere=was_late and record.upstream_id is None)
        record = await self.current(record)
        return record, await self._shown(record)

    async def _shown(self, record: Record) -> dict[str, Any]:
        webhooks = await self._store.webhooks.config(record.id) if record.background else None
        return with_webhooks(of_record(record), webhooks)

    async def _end(self, record: Record, reference: str, headers: bytes, *, nowhere: bool) -> None:
        """Cancel what nobody reads; ``nowhere`` says that upstream has never had it."""
        if record.terminal:
            raise _not_to_be_cancelled(reference, record)
        if nowhere or not record.background:
            # Upstream cannot end it.
            await self._take_over.cancel(record)
        else:
            await self._cancel_upstream(record, reference, headers)

    async def _cancel_upstream(self, record: Record, reference: str, headers: bytes) -> None:
        deployment = self._deployments.by_id(record.deployment_id)
        if record.upstream_id is None or deployment is None:
            raise _not_to_be_cancelled(reference, record)
        try:
            reply = await cancel(self._client, deployment, record.upstream_id, headers)
        except ServiceError as error:
            if isinstance(error, UpstreamError) and await self._was_cancelled(record):
                return
            error.message = error.message.replace(record.upstream_id, reference)
            raise
        if reply is None:
            await self._supervisor.look(record)
        else:
            await self._take_over.word(record, reply)

    async def _was_cancelled(self, record: Record) -> bool:
        """Whether what upstream refuses to cancel was cancelled a moment ago, for a wish heard here as well."""
        await self._supervisor.look(record)
        return (await self.current(record)).status == "cancelled"

    async def _cancelled_elsewhere(self, record: Record) -> Record | None:
        """Have the process that holds the interaction end it; None when its holder has died and it is held here now.

        Raises :class:`ServiceUnavailable` when the holder does not end it, and :class:`FailedPrecondition` when there
        is none and this process cannot ask upstream.
        """
        unknown = self._deployments.by_id(record.deployment_id) is None
        if unknown and await self._supervisor.is_left(record):
            raise FailedPrecondition(
                f"The interaction {ids.to_text(record.id)!r} cannot be cancelled here: its deployment "
                f"{record.deployment_id!r} is not configured. Cancel it through a process that has that."
            )
        await self._store.events.wish_cancel(record.id)
        for look in range(1, _CANCEL_LOOKS + 1):
            await asyncio.sleep(_CANCEL_LOOK)
            if (found := await self.current(record)).terminal:
                return found
            if look % _CANCEL_HINTS == 0:
                if await self._supervisor.secure(found):
                    return None
                # A hint may be lost, or be heard while a run is being handed to its reader.
                await self._store.held.hint(CANCEL)
        raise ServiceUnavailable("The interaction is not cancelled yet.", retry_after=1)

    async def delete(self, principal: Principal, reference: str, *, recorded: bool = False) -> Record:
        """Delete here for certain and upstream if it can: hidden at once, with its content kept only for follow-ups.

        With ``recorded`` also what was not to be stored. Raises :class:`FailedPrecondition` for what is under a legal
        hold.
        """
        find = self.find_recorded if recorded else self.find
        record = await self._settled(await find(principal, reference))
        if holds := await self._store.delete(record.id, now(), _usage_detail(record)):
            reason = f" ({holds[0].reason})" if holds[0].reason else ""
            raise FailedPrecondition(
                f"The interaction {reference!r} is under a legal hold{reason} and cannot be deleted. Release the hold "
                "first."
            )
        if record.upstream_id is None and not record.terminal:
            # It may have become known meanwhile.
            await self._upstream_copy.delete_if_deleted(record.id)
            self._upstream_copy.delete_when_answered(record)
        else:
            await self._upstream_copy.delete(record)
        return record

    async def _settled(self, record: Record) -> Record:
        """The record with the usage that only upstream's copy may still tell."""
        if record.usage_state != USAGE_MISSING:
            return record
        try:
            async with asyncio.timeout(_SETTLING):
                await self._late_usage.settle(record)
                return await self.current(record)
        except (ServiceUnavailable, TimeoutError) as error:
            logger.info("the usage of a deleted interaction could not be settled: %s", error)
            return record


def _not_to_be_cancelled(reference: str, record: Record) -> FailedPrecondition:
    return FailedPrecondition(
        f"The interaction {reference!r} cannot be cancelled: only streams and background interactions that are still "
        f"running can, and this one has the status {record.status!r}."
    )


def _usage_detail(record: Record) -> str | None:
    if record.response is None or (record.http_status or 0) >= 300 or is_adopted(record.attempts):
        return None
    usage = codec.loads(record.response).get("usage")
    return orjson.dumps(usage).decode() if isinstance(usage, dict) else None
