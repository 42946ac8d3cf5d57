"""Cancel: upstream can end what runs in its background (contract 6); a foreground stream ends with its connection."""

from __future__ import annotations

import logging
from typing import Any

from service.errors import ServiceError
from service.interactions import outcomes
from service.interactions.calls import Job
from service.interactions.inquiry import is_word
from service.upstream.client import GeminiClient

logger = logging.getLogger(__name__)


async def cancelled_upstream(
    client: GeminiClient, job: Job, upstream_id: str | None
) -> dict[str, Any] | None:
    """The interaction as upstream leaves it after a cancel; None when upstream has no say in it."""
    if upstream_id is None or not job.intent.background:
        return None
    try:
        reply = await client.cancel(job.route.deployment, upstream_id, headers=job.call.upstream_headers)
    except ServiceError as error:
        logger.warning("upstream did not cancel %s: %s", upstream_id, error)
        return None
    if is_word(reply, upstream_id) and outcomes.is_terminal(outcomes.status_of(reply.body)):
        return reply.body
    return None
