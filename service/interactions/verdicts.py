"""How an interaction ends that upstream does not end: ``failed``, with a reason, and what was received is kept."""

from __future__ import annotations

from typing import Any, Final

from service.interactions.render import timestamp
from service.store.records import now

#: Code and message of each verdict.
Verdict = tuple[str, str]
INTERRUPTED: Final[Verdict] = (
    "interrupted",
    "The service ended before upstream had answered. The request was not sent again: upstream may have run it.",
)
LOST: Final[Verdict] = (
    "not_found",
    "Upstream has lost this interaction: it was begun there, and is not known there any more.",
)
GIVEN_UP: Final[Verdict] = (
    "deadline_exceeded",
    "The interaction was still running after the time that 'background_timeout' gives it, and was given up.",
)


def failed(so_far: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    """What was received, under a verdict."""
    code, message = verdict
    return {
        **so_far,
        "updated": timestamp(now()),
        "status": "failed",
        "errors": [{"code": code, "message": message}],
    }
