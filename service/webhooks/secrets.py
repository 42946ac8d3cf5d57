"""The secrets that sign webhooks (Standard Webhooks: ``whsec_`` and base64 of 24 to 64 bytes)."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

_PREFIX: Final = "whsec_"
_BYTES: Final = 32


def generate() -> str:
    """A new secret."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Whether this can sign."""
    if not text.startswith(_PREFIX):
        return False
    try:
        return 24 <= len(base64.b64decode(text.removeprefix(_PREFIX), validate=True)) <= 64
    except binascii.Error:
        return False


def headers(signing: Sequence[str], event_id: str, body: bytes, moment: datetime) -> dict[str, str]:
    """What a receiver checks: the event's id, the time of this try, and for each secret a signature of both and of the
    body, of which one has to be right.
    """
    moment = moment.astimezone(UTC)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(event_id, moment, body.decode()) for secret in signing
        ),
    }
