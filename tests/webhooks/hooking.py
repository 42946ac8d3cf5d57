"""Background runs with receivers, and what signs what they are told."""

from __future__ import annotations

from typing import Any

from tests.support.gateway import Gateway
from tests.support.receivers import Receiver
from tests.support.replies import Reply

SLOW = "background;queued=3600;running=3600"
#: Receivers on this machine are allowed, and pauses are short.
QUICK: dict[str, Any] = {
    "poll_interval": 0.02,
    "poll_interval_max": 0.05,
    "webhook_allow_private": True,
    "webhook_retry_after": 0.02,
    "webhook_timeout": 30.0,
}
#: For receivers that hang.
BRISK = {**QUICK, "webhook_timeout": 0.5}
SECRET = "/api/projects/default/webhook-secret"


async def run(gateway: Gateway, *hooks: Receiver, wish: str = SLOW, **members: Any) -> Reply:
    """Begin a background run whose outcome these receivers are told of."""
    config = {"uris": [hook.url for hook in hooks], **members}
    return await gateway.ask("Work", background=True, wish=wish, webhook_config=config)


async def secret_of(gateway: Gateway) -> str:
    reply = await gateway.request("GET", SECRET)
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    secret: str = reply.body["webhook_secret"]
    return secret
