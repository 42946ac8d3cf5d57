"""What upstream says of an interaction that is not finished, and what of that is to be believed.

Only an answer that tells a status, and names the interaction that was asked for, is a word. Everything else (a 404
right after create is normal, contract 6) leaves the record as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from service.errors import ServiceError, UpstreamError
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment

logger = logging.getLogger(__name__)

#: The statuses with which upstream says that it has no such interaction, which right after create need not be so.
GONE: Final = frozenset({404, 410})
#: Refusals of a stream behind which there may be one later.
_PASSING: Final = GONE | {408, 429}
#: How the time that upstream gets to settle is divided between questions.
_SHARES: Final = (1 / 15, 2 / 15, 4 / 15, 8 / 15)


class Gone(Exception):
    """Upstream says that it has no such interaction."""


async def ask(
    client: GeminiClient, deployment: Deployment, upstream_id: str, headers: bytes = b""
) -> Reply | None:
    """Upstream's word; None when it cannot be asked or says nothing that counts. Raises :class:`Gone`."""
    try:
        reply = await client.get(deployment, upstream_id, headers=headers)
    except ServiceError as error:
        if isinstance(error, UpstreamError) and error.status in GONE:
            raise Gone from error
        logger.info("upstream could not tell the state of an unfinished interaction: %s", error)
        return None
    return reply if is_word(reply, upstream_id) else None


async def cancel(
    client: GeminiClient, deployment: Deployment, upstream_id: str, headers: bytes = b""
) -> Reply | None:
    """Have upstream end an interaction; its word on that, None when it says nothing that counts.

    Raises :class:`~service.errors.ServiceError` when it refuses.
    """
    reply = await client.cancel(deployment, upstream_id, headers=headers)
    return reply if is_word(reply, upstream_id) else None


def is_final_refusal(error: UpstreamError) -> bool:
    """Whether asking again for the stream that upstream has refused is of no use."""
    return error.status < 500 and error.status not in _PASSING


def is_word(reply: Reply, upstream_id: str) -> bool:
    """Whether a reply tells the status of this interaction."""
    return isinstance(reply.body.get("status"), str) and reply.body.get("id", upstream_id) == upstream_id


async def words(
    client: GeminiClient, deployment: Deployment, upstream_id: str, settle: float
) -> AsyncIterator[Reply | None]:
    """Upstream's word, asked for during ``settle`` seconds; None each time it has none.

    Raises :class:`Gone` when upstream still knows nothing of the interaction after that time.
    """
    for share in _SHARES:
        try:
            yield await ask(client, deployment, upstream_id)
        except Gone:
            yield None
        await asyncio.sleep(settle * share)
    yield await ask(client, deployment, upstream_id)
