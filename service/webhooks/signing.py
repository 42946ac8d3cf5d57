"""Whose secret signs what: those of the configuration for all projects, or one of each project's own.

The newest secret comes first. While one is being rotated out both sign, so that a receiver that knows either is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.errors import Aborted, FailedPrecondition
from service.store.kept_secrets import KeptSecrets, SigningSecrets
from service.store.records import now
from service.webhooks import secrets

_SECOND: Final = 1_000_000


class Signing:
    """Every method raises :class:`~service.errors.ServiceUnavailable` when the database cannot be used."""

    def __init__(self, kept: KeptSecrets, configured: Sequence[str] = ()) -> None:
        self._kept = kept
        self._configured = tuple(configured)

    async def secrets(self, project_id: bytes) -> tuple[str, ...]:
        """What signs the webhooks of a project now; it gets a secret when it has none."""
        if self._configured:
            return self._configured
        found = await self._kept.find_or_keep(project_id, secrets.generate)
        previous = found.previous_at(now())
        return (found.current,) if previous is None else (found.current, previous)

    async def show(self, project_id: bytes) -> SigningSecrets:
        """The same, with its times; a configured one has none."""
        if self._configured:
            previous = self._configured[1] if len(self._configured) > 1 else None
            return SigningSecrets(self._configured[0], 0, previous)
        found = await self._kept.find_or_keep(project_id, secrets.generate)
        if found.previous_at(now()) is None:
            return SigningSecrets(found.current, found.created_at)
        return found

    async def create(self, project_id: bytes) -> SigningSecrets:
        """Give a project its first secret; raises :class:`Aborted` when it has one."""
        self._check_own()
        secret = secrets.generate()
        found = await self._kept.find_or_keep(project_id, lambda: secret)
        if found.current != secret:
            raise Aborted("The project has a webhook secret already; read it, or rotate it.")
        return found

    async def rotate(self, project_id: bytes, keep: float) -> SigningSecrets:
        """Sign with a new secret from now on, and for ``keep`` more seconds with the one before.

        Raises :class:`Aborted` while an earlier rotation goes on, whose older secret receivers may still check by.
        """
        self._check_own()
        found = await self._kept.find_or_keep(project_id, secrets.generate)
        if found.previous_at(now()) is not None:
            raise Aborted(
                "The webhook secret is being rotated already, and the one before still signs; retire that first."
            )
        secret = secrets.generate()
        stands = await self._kept.rotate(project_id, found.current, secret, now() + int(keep * _SECOND))
        if stands is None or stands.current != secret:
            raise Aborted("The webhook secret was rotated by somebody else at the same moment; read it.")
        return await self.show(project_id)

    async def retire(self, project_id: bytes) -> SigningSecrets:
        """Sign no more with the secret before; raises :class:`FailedPrecondition` when there is none."""
        self._check_own()
        found = await self._kept.find(project_id)
        if found is None or found.previous is None or found.previous_at(now()) is None:
            raise FailedPrecondition("No webhook secret of this project is being rotated out.")
        await self._kept.retire(project_id, found.previous)
        return await self.show(project_id)

    def _check_own(self) -> None:
        if self._configured:
            raise FailedPrecondition(
                "general_settings.webhook_secret signs the webhooks of every project; to rotate it, configure the new "
                "secret with the old one behind it, and later the new one alone."
            )
