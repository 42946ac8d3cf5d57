"""What must not be: an interaction's row, its bodies and its log that do not fit each other, each by its reason.

An interaction that is merely open is none of them as long as a process has it, or may still find it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from service.audit.reconciliation_rows import Row
from service.store.kept_events import DISTANCE
from service.store.records import USAGE_NONE
from service.wire import sse
from service.wire.assembler import TERMINAL_EVENTS

#: Statuses that an interaction cannot have without an answer of upstream.
_ANSWERED: Final = frozenset(
    {"completed", "incomplete", "requires_action", "requires_continuation", "budget_exceeded"}
)
#: What ends a stream (contract 4.3); so does an error that nothing follows (contract 4.8).
_ENDS: Final = frozenset(name.encode() for name in TERMINAL_EVENTS)
_ERROR: Final = b"error"
_BLOCK_END: Final = b"\n\n"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An interaction at which the store contradicts itself."""

    id: bytes
    reason: str
    detail: str


@dataclass(slots=True)
class LogShape:
    """What the event log of one interaction looks like, batch by batch in order."""

    events: int = 0
    last_seq: int = 0
    gap_after: int | None = None
    ends: int = 0
    last_event: bytes | None = None

    def add(self, first_seq: int, last_seq: int, body: bytes) -> None:
        """Take in the next batch."""
        blocks = body.split(_BLOCK_END)[:-1]
        # What goes on after a process was killed begins far behind, and is a continuation all the same.
        follows = first_seq == self.last_seq + 1 or first_seq >= self.last_seq + DISTANCE
        whole = last_seq - first_seq + 1 == len(blocks)
        if not (follows and whole) and self.gap_after is None:
            self.gap_after = self.last_seq
        self.events += len(blocks)
        self.last_seq = last_seq
        for block in blocks:
            self.last_event = sse.event_name(block)
            self.ends += self.last_event in _ENDS


_NO_LOG: Final = LogShape()


def mismatches(row: Row, log: LogShape | None, abandoned_before: int) -> Iterator[Mismatch]:
    """What is wrong with an interaction; what is open counts as abandoned when nobody has touched it since."""
    shape = log or _NO_LOG
    found = _of_ended(row, shape) if row.completed_at is not None else _of_open(row, shape, abandoned_before)
    for reason, detail in found:
        yield Mismatch(row.id, reason, detail)


def _of_open(row: Row, log: LogShape, abandoned_before: int) -> Iterator[tuple[str, str]]:
    if row.owned or row.updated_at > abandoned_before:
        return
    if row.answered and not row.background and not row.stream:
        yield "outcome_missing", "upstream answered an attempt, and there is no outcome"
    else:
        yield "abandoned", f"it is {row.status!r} and no process has it"
    if log.ends:
        yield "log_ended_early", "the log tells the end of an interaction that has none"


def _of_ended(row: Row, log: LogShape) -> Iterator[tuple[str, str]]:
    told = row.status in _ANSWERED
    if told and not row.attempts:
        yield "attempts_missing", f"it is {row.status!r} without an attempt"
    if row.answered and row.usage_state == USAGE_NONE and not row.adopted:
        yield "usage_missing", "upstream took it, and its usage was never decided"
    if row.deleted_at is not None:
        return
    if told and not row.has_response:
        yield "response_missing", f"it is {row.status!r} without a response"
    if row.unannounced:
        yield "webhook_missing", "it has ended, and its webhooks are not due"
    yield from _of_log(row, log)


def _of_log(row: Row, log: LogShape) -> Iterator[tuple[str, str]]:
    if not log.events:
        if row.stream and told_by_events(row):
            yield "log_missing", "it was streamed, and no event is in its log"
        return
    if log.gap_after is not None:
        yield "log_gap", f"events after {log.gap_after} are missing or told twice"
    if log.ends > 1:
        yield "log_end_repeated", f"its log has {log.ends} events that end it"
    elif not log.ends and log.last_event != _ERROR:
        yield "log_end_missing", "its log has no event that ends it"
    elif log.ends and log.last_event not in _ENDS:
        yield "log_end_passed", "its log goes on after the event that ends it"


def told_by_events(row: Row) -> bool:
    """Whether the answer came as a stream: upstream may answer the wish for one with a whole (contract 4.8)."""
    return row.status in _ANSWERED and not any(attempt.get("whole") for attempt in row.attempts)
