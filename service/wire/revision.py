"""Which generation of the API a caller speaks (contract 1.4 and 9.2).

Google removed the legacy generation; its clients are still out there and announce themselves in one of three
ways. A missing ``Api-Revision`` says nothing: the newest SDKs send none.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Any

_FIRST_STEPS_REVISION = date(2026, 5, 20)
_SDK = re.compile(r"google-genai-sdk/(\d{1,9})|GeminiNextGenAPIClient/\S+ (\d{1,9})|(speakeasy-sdk)/")


class Revision(enum.Enum):
    """The schema generation of a caller."""

    STEPS = "steps"
    LEGACY = "legacy"
    #: No sign of either (plain curl): answered with the steps body plus the legacy members.
    EITHER = "either"


def detect(headers: Mapping[str, str], body: Mapping[str, Any] | None) -> Revision:
    """The caller's generation: explicit ``Api-Revision``, else SDK major version, else the shape of the body.

    ``headers`` is case-insensitive or has lowercase names. An ``Api-Revision`` that is not an ISO date is
    ignored.
    """
    explicit = headers.get("api-revision")
    if explicit is not None:
        revision = _of_date(explicit)
        if revision is not None:
            return revision
    for name in ("x-goog-api-client", "user-agent"):
        client = headers.get(name)
        if client:
            revision = _of_client(client)
            if revision is not None:
                return revision
    if body is not None and _is_legacy_body(body):
        return Revision.LEGACY
    return Revision.EITHER


def _of_date(text: str) -> Revision | None:
    try:
        revision = date.fromisoformat(text.strip())
    except ValueError:
        return None
    return Revision.STEPS if revision >= _FIRST_STEPS_REVISION else Revision.LEGACY


@lru_cache(maxsize=256)
def _of_client(client: str) -> Revision | None:
    match = _SDK.search(client)
    if match is None:
        return None
    major = match[1] or match[2]
    return Revision.LEGACY if major is not None and int(major) < 2 else Revision.STEPS


def _is_legacy_body(body: Mapping[str, Any]) -> bool:
    if body.get("response_mime_type") is not None:
        return True
    asked = body.get("input")
    turns = asked if isinstance(asked, list) else [asked]
    return any(isinstance(item, dict) and "role" in item and item.get("type") is None for item in turns)
