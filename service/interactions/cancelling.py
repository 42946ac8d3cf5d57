"""Cancel: upstream can end what runs in its background (contract 6); a foreground stream ends with its connection."""

from __future__ import annotations

import logging
from typing import Any

from service.errors import ServiceError
from service.interactions import outcomes
from service.interactions.calls import Job
from service.interactions.inquiry import cancel
from service.upstream.client import GeminiClient

logger = logging.getLogger(__name__)


async def last_word(
    client: GeminiClient, job: Job, upstream_id: str | None, headers: bytes
) -> dict[str, Any] | None:
    """Upstream's last word on a background run that it is told to cancel; None where it has none.

    Raises :class:`~service.errors.ServiceError` when it refuses.
    """
    if upstream_id is None or not job.intent.background:
        return None
    reply = await cancel(client, job.route.deployment, upstream_id, headers)
    if reply is None or not outcomes.is_terminal(outcomes.status_of(reply.body)):
        return None
    return reply.body


async def cancelled_upstream(
    client: GeminiClient, job: Job, upstream_id: str | None
) -> dict[str, Any] | None:
    """The interaction as upstream leaves it after a cancel; None when upstream has no say in it, or refuses."""
    try:
        return await last_word(client, job, upstream_id, job.call.upstream_headers)
    except ServiceError as error:
        logger.warning("upstream did not cancel %s: %s", upstream_id, error)
        return None
