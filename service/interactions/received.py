"""What was received of an interaction that has come to no good end, and of which upstream shows less by then."""

from __future__ import annotations

from typing import Any, Final

from service.errors import BadGateway
from service.interactions import outcomes
from service.wire import codec
from service.wire.assembler import Assembler
from service.wire.remainder import remainder

_UNSUCCESSFUL: Final = frozenset({"failed", "cancelled", "incomplete", "budget_exceeded"})
_NO_REASON: Final = {
    "code": BadGateway.code,
    "message": "The stream broke off, and upstream says that the interaction has failed, but not why.",
}


def rest_of(
    told: Assembler, whole: dict[str, Any], *, lost: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
    """The whole that is kept, and the events that lead to it from what was told, as :func:`remainder` finds them.

    What callers were told is kept where upstream shows less of an interaction that has come to no good end; upstream
    knows best how that ended and what it cost.
    """
    missing = remainder(told, whole, lost=lost)
    if missing is None and (kept := _with_received(whole, told)) is not None:
        return kept, remainder(told, kept, lost=lost)
    return whole, missing


def _with_received(whole: dict[str, Any], told: Assembler) -> dict[str, Any] | None:
    """The whole with the steps that were told; None for what has ended well, or of which upstream shows as much."""
    status = outcomes.status_of(whole)
    received = told.result().get("steps") or []
    if status not in _UNSUCCESSFUL or _size(whole.get("steps") or []) >= _size(received):
        return None
    kept = {**whole, "steps": received}
    if status == "failed" and not whole.get("errors"):
        error = whole.get("error")
        kept["errors"] = [error if isinstance(error, dict) and error else _NO_REASON]
    return kept


def _size(steps: list[Any]) -> int:
    return len(codec.dumps(steps))
