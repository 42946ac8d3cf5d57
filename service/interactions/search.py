"""Looking for interactions at the upstreams, by upstream's own ids.

Only 400, 404 and 410 say that an upstream has no such interaction (contract 6). Whatever else goes wrong there (a key
that is refused, a limit, an outage, an answer that makes no sense) says nothing, and nobody may take it for a loss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from service.errors import ModelNotFound, ServiceError, ServiceUnavailable, UpstreamError
from service.interactions.inquiry import is_word
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment, Deployments

logger = logging.getLogger(__name__)

#: Statuses with which upstream says that it has no such interaction.
_ABSENT: Final = frozenset({400, 404, 410})
#: What Google's front end says, with a 400 as well, of a key that it does not take.
_KEY_REFUSED: Final = "api key"
#: Questions to upstream at a time, and seconds for the answer to one.
_AT_ONCE: Final = 16
_PATIENCE: Final = 10.0
#: Seconds after which a caller may ask again when upstream could not be asked.
_RETRY_AFTER: Final = 2.0


@dataclass(frozen=True, slots=True)
class Copy:
    """An interaction as an upstream holds it, and a deployment that can go on with it there."""

    upstream_id: str
    deployment: Deployment
    reply: Reply

    @property
    def previous_upstream_id(self) -> str | None:
        """What it follows on."""
        value = self.reply.body.get("previous_interaction_id")
        return value if isinstance(value, str) and value else None


class Search:
    """Asks upstreams for interactions, a bounded number of questions at a time."""

    def __init__(self, client: GeminiClient, deployments: Deployments) -> None:
        self._client = client
        self._deployments = deployments
        self._upstreams = deployments.upstreams()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def everywhere(self, upstream_id: str) -> Copy | None:
        """The copy of whichever upstream has it, asking each once; None when every one says that it has not.

        Raises :class:`ServiceUnavailable` when none has it and some could not be asked.
        """
        asked = [asyncio.create_task(self._ask(group[0], upstream_id)) for group in self._upstreams]
        silent = 0
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    copy = await answer
                except _SilentError:
                    silent += 1
                    continue
                if copy is not None:
                    return self._on_serving_deployment(copy)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if silent:
            raise _unavailable(upstream_id, f"{silent} of {len(asked)} upstreams could not be asked for it")
        return None

    async def at(self, deployment: Deployment, upstream_id: str) -> Copy | None:
        """This upstream's copy; None when it has none. Raises :class:`ServiceUnavailable` if it cannot be asked."""
        try:
            return await self._ask(deployment, upstream_id)
        except _SilentError as error:
            raise _unavailable(upstream_id, "its upstream could not be asked for it") from error

    async def _ask(self, deployment: Deployment, upstream_id: str) -> Copy | None:
        try:
            async with self._places, asyncio.timeout(_PATIENCE):
                reply = await self._client.get(deployment, upstream_id, include_input=True)
        except (ServiceError, TimeoutError) as error:
            if _says_absent(error):
                return None
            logger.warning("deployment %s could not be asked for an interaction: %s", deployment.id, error)
            raise _SilentError from error
        if not is_word(reply, upstream_id):
            logger.warning("deployment %s answered with something that is not the interaction", deployment.id)
            raise _SilentError
        return Copy(upstream_id, deployment, reply)

    def _on_serving_deployment(self, copy: Copy) -> Copy:
        """The copy on the deployment that serves its model, of those with the same interactions."""
        model, agent = (_text(copy.reply.body.get(name)) for name in ("model", "agent"))
        group = next(group for group in self._upstreams if group[0] is copy.deployment)
        if len(group) > 1 and (model or agent):
            serving = self._serving(group, model, agent)
            return Copy(copy.upstream_id, serving, copy.reply)
        return copy

    def _serving(self, group: Sequence[Deployment], model: str | None, agent: str | None) -> Deployment:
        with suppress(ModelNotFound):
            for deployment in group:
                if self._deployments.serves(deployment, model, agent):
                    return deployment
        return group[0]


class _SilentError(Exception):
    """An upstream did not say whether it has an interaction."""


def _says_absent(error: Exception) -> bool:
    return (
        isinstance(error, UpstreamError)
        and error.status in _ABSENT
        and _KEY_REFUSED not in error.message.lower()
    )


def _unavailable(upstream_id: str, why: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"The interaction {upstream_id!r} is not in this store, and {why}. It may still exist: try again.",
        retry_after=_RETRY_AFTER,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
