"""What was received of an interaction that has come to no good end, and of which upstream shows less by then."""

from __future__ import annotations

from typing import Any, Final

from service.errors import BadGateway
from service.interactions import outcomes
from service.wire import codec
from service.wire.assembler import Assembler

_UNSUCCESSFUL: Final = frozenset({"failed", "cancelled", "incomplete", "budget_exceeded"})
_NO_REASON: Final = {
    "code": BadGateway.code,
    "message": "The stream broke off, and upstream says that the interaction has failed, but not why.",
}


def with_received(whole: dict[str, Any], told: Assembler) -> dict[str, Any] | None:
    """The whole with the steps that were told in place of upstream's, where these are less.

    What callers were told is kept; upstream knows best how that ended and what it cost. None for what has ended well,
    or of which upstream shows as much.
    """
    status = outcomes.status_of(whole)
    received = told.result().get("steps") or []
    if status not in _UNSUCCESSFUL or _size(whole.get("steps") or []) >= _size(received):
        return None
    kept = {**whole, "steps": received}
    if status == "failed" and not whole.get("errors"):
        kept["errors"] = [_NO_REASON]
    return kept


def _size(steps: list[Any]) -> int:
    return len(codec.dumps(steps))
