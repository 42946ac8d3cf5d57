"""When each event of an interaction happens, and with that, what can be seen of it at any moment.

Foreground events follow each other by the configured delay; those of a background run are spread over its
running time. Event ids are the position in this list, from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from service.emulator.events import Event, events_of
from service.emulator.inputs import Step
from service.emulator.records import NEVER, Record, flat
from service.errors import InvalidRequest

_CURSOR = "evt_"
_EMPTY = b"[]"


@dataclass(frozen=True, slots=True)
class Timed:
    """An event and the time at which it happens."""

    due: float
    event: Event


def timeline(record: Record) -> list[Timed]:
    """Every event of the record's stream, the last one terminal unless the run never ends."""
    opening = _opening(record)
    if record.done_at == NEVER:
        return opening
    body = list(_body(record))
    if record.checkpoint is not None:
        _insert_checkpoint(record, body, len(opening))
    gap = (record.done_at - record.started_at) / (len(body) + 1)
    timed = opening + [
        Timed(record.started_at + gap * (number + 1), event) for number, event in enumerate(body)
    ]
    if record.cancelled_at is not None:
        return _cancelled(record, timed, record.cancelled_at)
    timed.append(Timed(record.done_at, _closing(record, record.done_at)))
    return timed


def steps_at(record: Record, now: float) -> bytes:
    """The steps that are finished at `now`, as JSON."""
    if record.finished(now):
        return record.steps
    if now < record.started_at or record.done_at == NEVER:
        return _EMPTY
    until = now if record.cancelled_at is None else record.cancelled_at
    stopped = sum(
        1 for timed in timeline(record) if timed.event["event_type"] == "step.stop" and timed.due <= until
    )
    return orjson.dumps(orjson.loads(record.steps)[:stopped])


def cursor(position: int) -> str:
    """The `event_id` of the event at a position, from 0."""
    return f"{_CURSOR}{position + 1}"


def position_after(last_event_id: str, known: int) -> int:
    """The position of the event after `last_event_id`.

    Raises InvalidRequest for an id that none of the `known` events has.
    """
    number = last_event_id.removeprefix(_CURSOR)
    if (
        number.isascii()
        and number.isdigit()
        and 1 <= int(number) <= known
        and cursor(int(number) - 1) == last_event_id
    ):
        return int(number)
    raise InvalidRequest(f"Invalid last_event_id '{last_event_id}'.")


def _opening(record: Record) -> list[Timed]:
    queued = record.started_at > record.created
    created = {**record.head(record.created, complete=False), "status": "queued" if queued else "in_progress"}
    update = {"interaction_id": record.id, "status": "in_progress", "event_type": "interaction.status_update"}
    if not record.stored:
        del update["interaction_id"]
    return [
        Timed(record.created, {"interaction": created, "event_type": "interaction.created"}),
        Timed(record.started_at, update),
    ]


def _body(record: Record) -> Iterator[Event]:
    wish = record.plan.get("fragments")
    fragments = wish.integer("count") if wish else 1
    for index, step in enumerate(_streamed(record)):
        for event in events_of(index, step, fragments):
            yield event
            if event["event_type"] == "step.start" and "unknown" in record.plan:
                yield {"event_type": "emulated.future_event", "index": index, "payload": {"value": "ignored"}}


def _streamed(record: Record) -> list[Step]:
    steps: list[Step] = orjson.loads(record.steps)
    wish = record.plan.get("flat_outputs")
    if not record.flat or (wish and wish.flag("repeated")):
        return steps
    return [step for step in steps if "content" not in step] if wish and wish.flag("thoughts") else []


def _insert_checkpoint(record: Record, body: list[Event], before: int) -> None:
    if record.checkpoint is None:
        return
    after, token = record.checkpoint
    event = {
        "interaction_id": record.id,
        "status": "in_progress",
        "continuation_token": token,
        "event_type": "interaction.status_update",
    }
    body.insert(max(0, after - before), event)


def _cancelled(record: Record, timed: list[Timed], moment: float) -> list[Timed]:
    seen = [entry for entry in timed if entry.due <= moment]
    update = {"interaction_id": record.id, "status": "cancelled", "event_type": "interaction.status_update"}
    return [*seen, Timed(moment, update), Timed(moment, _closing(record, moment))]


def _closing(record: Record, moment: float) -> Event:
    """`interaction.completed`: the resource without steps (contract 4.3), but with flat outputs."""
    interaction: dict[str, Any] = record.head(moment)
    if record.flat and record.finished(moment):
        interaction["outputs"] = flat(record.steps)
    if record.usage_live and record.finished(moment):
        interaction["usage"] = orjson.Fragment(record.usage)
    return {"interaction": interaction, "event_type": "interaction.completed"}
