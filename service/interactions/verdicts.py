"""How an interaction ends that upstream does not end: ``failed``, with a reason, and what was received is kept."""

from __future__ import annotations

from typing import Any, Final

from service.interactions.ending import assembled
from service.interactions.render import timestamp
from service.interactions.taking_over import TakeOver
from service.store.records import Record, now
from service.store.store import Store
from service.wire import codec

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


class Verdicts:
    """Gives verdicts on interactions that this process holds and does not read."""

    def __init__(self, store: Store, take_over: TakeOver) -> None:
        self._store = store
        self._take_over = take_over

    async def fail(self, record: Record, verdict: Verdict, told: dict[str, Any] | None = None) -> None:
        """Commit a verdict; ``told`` is what upstream said last. Raises as :meth:`TakeOver.end` does."""
        await self._take_over.end(record, failed(await self._so_far(record, told), verdict))

    async def _so_far(self, record: Record, told: dict[str, Any] | None) -> dict[str, Any]:
        received: dict[str, Any] = {}
        if record.response is not None and (record.http_status or 0) < 300:
            received = codec.loads(record.response)
        received |= told or {}
        logged = await assembled(self._store.events, record)
        if logged.last:
            received = {**received, **logged.told.result()}
        return received
