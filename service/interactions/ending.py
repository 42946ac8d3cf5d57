"""The end of a log whose reader is gone: what upstream says of the whole, told as the events that were missing.

A reader that is killed has told its listeners some events that are not in the log. The missing part is told in other
events, so these begin at a distance: an id that is lost is never another event's, and is refused as unknown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.errors import BadGateway
from service.interactions.received import rest_of
from service.interactions.render import event_with_our_ids
from service.interactions.timeline import made_beside
from service.store import kept_events
from service.store.entries import Write
from service.store.kept_events import EventBatch, KeptEvents
from service.store.records import Record
from service.wire import codec, event_ids, losses, sse
from service.wire.assembler import Assembler

#: How many of a log's last events may be sent again and are known for that.
_NEWEST: Final = 64


async def rest_of_log(
    events: KeptEvents, record: Record, body: dict[str, Any], request: dict[str, Any], *, cut: bool = False
) -> tuple[dict[str, Any], list[Write]]:
    """What the transaction that ends a streamed interaction with ``body`` has to write of its log, behind that body.

    It is another one where upstream shows less of what came to no good end than its stream has told. ``cut`` says that
    upstream has not ended it: an error at its end is then the word for a loss.
    """
    logged = await assembled(events, record)
    await events.trim(record.id, logged.last, record.owner_id)
    whole = {**body, "steps": made_beside(body, request, logged.told.steps)}
    kept, missing = rest_of(logged.told, whole, lost=cut)
    if missing is None:
        message = "The stream could not be continued: upstream tells its beginning in another way. GET has the whole."
        missing = [{"event_type": "error", "error": {"code": BadGateway.code, "message": message}}]
        cut = True
    log = _written(record, missing, logged.last, request.get("webhook_config"), cut=cut)
    return (body if kept is whole else kept), log


def _written(
    record: Record, told: list[dict[str, Any]], last: int, webhooks: dict[str, Any] | None, *, cut: bool
) -> list[Write]:
    first = last + kept_events.DISTANCE
    frames = [_frame(seq, event, record, webhooks) for seq, event in enumerate(told, first)]
    if cut and frames:
        frames[-1] = losses.marked(frames[-1])
    batch = EventBatch(first, first + len(told) - 1, b"".join(frames), None)
    batches = [batch.write_last(record.id, record.owner_id)] if told else []
    return [*batches, kept_events.forget_wishes(record.id, record.owner_id)]


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log of an interaction has told so far, the seq of its last event, and the newest of them."""

    told: Assembler
    last: int
    #: As upstream told them, but for its ids of events.
    newest: Sequence[dict[str, Any]]


async def assembled(events: KeptEvents, record: Record) -> Logged:
    """What the log of an interaction says."""
    told = Assembler()
    newest: deque[dict[str, Any]] = deque(maxlen=_NEWEST)
    logged = await events.all(record.id)
    for event in logged:
        body = _as_upstream_told(codec.loads(sse.data_of(event.frame) or b"{}"), record)
        told.feed(body)
        newest.append(body)
    return Logged(told, logged[-1].seq if logged else 0, tuple(newest))


def _as_upstream_told(event: dict[str, Any], record: Record) -> dict[str, Any]:
    """An event of the log under upstream's id."""
    if "interaction_id" in event:
        event = {**event, "interaction_id": record.upstream_id}
    interaction = event.get("interaction")
    if isinstance(interaction, dict):
        event = {**event, "interaction": {**interaction, "id": record.upstream_id}}
    return event


def _frame(seq: int, event: dict[str, Any], record: Record, webhooks: dict[str, Any] | None) -> bytes:
    body = event_with_our_ids(event, record.id, record.previous_id, webhooks)
    return event_ids.with_event_id(codec.dumps(body), body, event_ids.text(seq))
