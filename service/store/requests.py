"""Writes requests without what an earlier one already holds, and gives them back as they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from service.errors import ServiceError
from service.store import deletion, idempotency, inputs, statements, webhooks
from service.store.codec import Codec
from service.store.entries import Write
from service.store.idempotency import KeyClaim, KeyTaken
from service.store.kept_keys import KeptKeys
from service.store.records import Intent
from service.store.regions import SHARED_FROM, Base, Region, region_of, whole_requests
from service.store.statement import Fetch
from service.store.writer import NotQueued, Writer

#: Seconds a new request waits for a database that cannot be reached before it is refused with 503.
INTENT_PATIENCE: Final = 2.0
_IF_CLAIMED: Final = {
    statements.INSERT_INTENT.name: statements.INSERT_CLAIMED_INTENT,
    statements.INSERT_REQUEST.name: statements.INSERT_CLAIMED_REQUEST,
    inputs.INSERT_INPUT.name: statements.INSERT_CLAIMED_INPUT,
    webhooks.REGISTER.name: statements.REGISTER_CLAIMED,
}
#: A larger request is read and hashed in a thread, so that the loop is not held up.
_IN_THREAD_BYTES: Final = 256 * 1024


class Requests:
    """Any number of processes may write at once; see :mod:`service.store.inputs`."""

    def __init__(self, fetch: Fetch, writer: Writer, codec: Codec, keys: KeptKeys) -> None:
        self._fetch = fetch
        self._writer = writer
        self._codec = codec
        self._keys = keys

    async def begin(
        self,
        intent: Intent,
        request: bytes,
        *,
        listed: bool,
        claim: KeyClaim | None = None,
        more: Sequence[Write] = (),
    ) -> bytes | None:
        """Commit an intent and its request, whose ``input`` is a list if ``listed``, and ``more`` with them.

        Returns a deleted interaction that was the request's base for a moment, and can perhaps be erased now.

        Raises :class:`~service.errors.ServiceUnavailable` when overloaded; trying again is safe. Raises
        :class:`~service.store.idempotency.KeyTaken` when the ``claim`` is in vain; after any other failure the key is
        free, though the intent may be committed: nobody will send it.
        """
        region = await _region(intent.project_id, request) if listed and len(request) >= SHARED_FROM else None
        if region is None:
            if claim is None:
                await self.hand_in(intent, request, more)
            else:
                await self._insert(intent, claim, *_whole(intent, request), *more)
            return None
        base = await self._base(intent.project_id, region)
        await self._insert(
            intent,
            claim,
            (statements.INSERT_INTENT, intent.row(len(request))),
            (statements.INSERT_REQUEST, (intent.id, region.without(base, request) if base else request)),
            (inputs.INSERT_INPUT, region.row(intent.id, base)),
            *more,
        )
        if base is None:
            return None
        try:
            return await self._given_up(base, intent, request, region)
        except ServiceError:
            if claim is not None:
                await self._keys.release(intent.id)
            raise

    def hand_in(self, intent: Intent, request: bytes, more: Sequence[Write]) -> asyncio.Future[None]:
        """Commit an intent, its whole request and ``more``, as :meth:`begin` does without a base and a claim."""
        return self._writer.hand_in(*_whole(intent, request), *more, patience=INTENT_PATIENCE, shed=True)

    async def whole(self, key: bytes) -> bytes | None:
        """The request of an interaction; raises :class:`~service.errors.StoreError` when its base is damaged."""
        rows = await self._fetch(inputs.REQUEST, {"id": key})
        return whole_requests(inputs.stored_requests(rows, self._codec), (key,)).get(key)

    async def _base(self, project_id: bytes, region: Region) -> Base | None:
        parameters = {"project_id": project_id, **inputs.prefixes_of(region)}
        for key, digest, size in await self._fetch(inputs.FIND_BASE, parameters):
            if region.prefixes[digest] == size:
                return Base(key, size)
        return None

    async def _given_up(self, base: Base, intent: Intent, request: bytes, region: Region) -> bytes | None:
        """The base, if it was deleted before the intent; the request is then stored in full."""
        if await self._fetch(deletion.STANDS, {"id": base.id}):
            return None
        await self._put(
            (inputs.REPLACE_REQUEST, (intent.id, request)),
            (inputs.FORGET_BASE, (intent.id, region.digest)),
        )
        return base.id

    async def _insert(self, intent: Intent, claim: KeyClaim | None, *writes: Write) -> None:
        if claim is None:
            await self._put(*writes)
            return
        claiming = (idempotency.CLAIM_KEY, claim.row(intent.id, intent.project_id))
        owner = {"project_id": intent.project_id, "idempotency_key": claim.key, "now": claim.claimed_at}
        try:
            await self._put(claiming, *((_IF_CLAIMED[statement.name], row) for statement, row in writes))
            rows = await self._fetch(idempotency.FIND_KEY, owner)
        except NotQueued:
            raise
        except ServiceError:
            await self._keys.release(intent.id)
            raise
        if not rows or rows[0][0] != intent.id:
            raise KeyTaken

    async def _put(self, *writes: Write) -> None:
        await self._writer.put(*writes, patience=INTENT_PATIENCE, shed=True)


def _whole(intent: Intent, request: bytes) -> tuple[Write, Write]:
    return (
        (statements.INSERT_INTENT, intent.row(len(request))),
        (statements.INSERT_REQUEST, (intent.id, request)),
    )


async def _region(project_id: bytes, request: bytes) -> Region | None:
    if len(request) >= _IN_THREAD_BYTES:
        return await asyncio.to_thread(region_of, project_id, request)
    return region_of(project_id, request)
