"""Idempotency keys as the domain sees them: find who has one, let it go, sweep those that are past their time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from service.errors import ServiceError
from service.store import idempotency
from service.store.records import now
from service.store.statement import Fetch
from service.store.writer import Writer

#: Seconds that a sweep waits for the database; what it leaves is swept the next time.
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Bound:
    """The interaction that a key has made, and the fingerprint of its request."""

    interaction_id: bytes
    fingerprint: bytes


class KeptKeys:
    """Reads and writes of idempotency keys."""

    def __init__(self, fetch: Fetch, writer: Writer) -> None:
        self._fetch = fetch
        self._writer = writer

    async def find(self, project_id: bytes, key: str) -> Bound | None:
        """Who has this key of a project now; raises :class:`~service.errors.ServiceUnavailable`."""
        parameters = {"project_id": project_id, "idempotency_key": key, "now": now()}
        rows = await self._fetch(idempotency.FIND_KEY, parameters)
        return Bound(*rows[0]) if rows else None

    async def release(self, interaction_id: bytes) -> None:
        """Let go of the key of an interaction that was never sent; written as soon as the database can be.

        Waits for the database only a moment, and raises nothing.
        """
        with suppress(ServiceError):
            await self._writer.put((idempotency.RELEASE_KEY, (interaction_id,)), patience=0.0)

    async def sweep(self, at: int) -> None:
        """Forget the keys whose time has come; raises :class:`~service.errors.ServiceUnavailable`."""
        while rows := await self._fetch(idempotency.EXPIRED_KEYS, {"now": at}):
            await self._writer.put(
                *((idempotency.RELEASE_KEY, (interaction_id,)) for (interaction_id,) in rows),
                patience=_PATIENCE,
                shed=True,
            )
