"""The end of a log whose reader is gone: what upstream says of the whole, told as the events that were missing.

A reader that is killed has told its listeners some events that are not in the log. The missing part is told in other
events, so these begin at a distance: an id that is lost is never another event's, and is refused as unknown.
"""

from __future__ import annotations

from typing import Any

from service.errors import BadGateway
from service.interactions.render import event_with_our_ids
from service.interactions.timeline import made_of
from service.store import kept_events
from service.store.entries import Write
from service.store.kept_events import EventBatch, KeptEvents
from service.store.records import Record
from service.wire import codec, event_ids, sse
from service.wire.assembler import Assembler
from service.wire.remainder import remainder


async def rest_of_log(
    events: KeptEvents, record: Record, body: dict[str, Any], request: dict[str, Any]
) -> list[Write]:
    """What the transaction that ends a streamed interaction with ``body`` has to write of its log."""
    told, last = await _assembled(events, record)
    missing = remainder(told, {**body, "steps": made_of(body, request)})
    if missing is None:
        message = "The stream could not be continued: upstream tells its beginning in another way. GET has the whole."
        missing = [{"event_type": "error", "error": {"code": BadGateway.code, "message": message}}]
    first = last + kept_events.DISTANCE
    frames = b"".join([_frame(seq, event, record) for seq, event in enumerate(missing, first)])
    batch = EventBatch(first, first + len(missing) - 1, frames, None)
    return [batch.write(record.id), kept_events.release(record.id)]


async def assembled(events: KeptEvents, record: Record) -> Assembler:
    """What the log of an interaction has told so far."""
    return (await _assembled(events, record))[0]


async def _assembled(events: KeptEvents, record: Record) -> tuple[Assembler, int]:
    told = Assembler()
    logged = await events.all(record.id)
    for event in logged:
        told.feed(codec.loads(sse.data_of(event.frame) or b"{}"))
    return told, logged[-1].seq if logged else 0


def _frame(seq: int, event: dict[str, Any], record: Record) -> bytes:
    body = event_with_our_ids(event, record.id, record.previous_id)
    return event_ids.with_event_id(codec.dumps(body), body, event_ids.text(seq))
