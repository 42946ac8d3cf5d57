"""What signs the webhooks of each project: one secret, and until its time is over the one before it.

Two secrets sign at once while receivers change from one to the other (Standard Webhooks: signatures are a list, so that
secrets can be rotated without a gap).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from service.store.records import now
from service.store.signing_secrets import KEEP_SECRET, RETIRE_SECRET, ROTATE_SECRET, SECRET
from service.store.statement import Fetch
from service.store.writer import Writer

#: Seconds that a new secret waits for the database.
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class SigningSecrets:
    """The secrets of one project; moments in microseconds."""

    current: str
    created_at: int
    previous: str | None = None
    previous_until: int | None = None

    def previous_at(self, moment: int) -> str | None:
        """The secret before, if it signs along at that moment."""
        return self.previous if self.previous_until is not None and moment < self.previous_until else None


class KeptSecrets:
    """Every method raises :class:`~service.errors.ServiceUnavailable` when the database cannot be used."""

    def __init__(self, fetch: Fetch, writer: Writer) -> None:
        self._fetch = fetch
        self._writer = writer

    async def find(self, project_id: bytes) -> SigningSecrets | None:
        """What signs this project's webhooks, if it has anything yet."""
        rows = await self._fetch(SECRET, {"project_id": project_id})
        return SigningSecrets(*rows[0]) if rows else None

    async def find_or_keep(self, project_id: bytes, otherwise: Callable[[], str]) -> SigningSecrets:
        """The same; the first caller's ``otherwise`` where there is nothing yet."""
        found = await self.find(project_id)
        while found is None:
            await self._writer.put((KEEP_SECRET, (project_id, otherwise(), now())), patience=_PATIENCE)
            found = await self.find(project_id)
        return found

    async def rotate(
        self, project_id: bytes, replaced: str, secret: str, until: int
    ) -> SigningSecrets | None:
        """Sign with ``secret`` from now on, and with the one that it replaces until then.

        Nothing changes unless ``replaced`` is what signs now; gives what signs afterwards.
        """
        row = (project_id, secret, now(), replaced, until)
        await self._writer.put((ROTATE_SECRET, row), patience=_PATIENCE)
        return await self.find(project_id)

    async def retire(self, project_id: bytes, previous: str) -> None:
        """Sign no more with the secret before."""
        await self._writer.put((RETIRE_SECRET, (project_id, previous)), patience=_PATIENCE)
