"""What the emulator keeps of an interaction, and what it shows of it at a given moment.

A record is finished when it is made: the answer is known at once, and the clock decides how much of it can be
seen. So a background run needs no task, and moving the clock moves every run. Answers are kept as JSON bytes,
because most are never looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.emulator.clock import timestamp
from service.emulator.conversation import Conversation
from service.emulator.directives import NOTHING, Plan
from service.emulator.inputs import Step, steps_of
from service.errors import NotFound

ACTIVE = frozenset({"queued", "in_progress"})
#: Statuses that a `previous_interaction_id` may have; of the others there is nothing to go on from.
ANCHORS = frozenset(
    {"completed", "requires_action", "incomplete", "budget_exceeded", "requires_continuation"}
)


@dataclass(slots=True)
class Record:
    """One interaction, with its end already known."""

    id: str
    key: str
    stored: bool
    background: bool
    #: `model` or `agent`, and its name.
    actor: tuple[str, str]
    previous: str | None
    #: The request as it came, and the model's steps and usage, as JSON.
    body: bytes
    steps: bytes
    usage: bytes
    status: str
    #: Where the conversation stands after this interaction.
    conversation: Conversation
    created: float
    #: When the work starts, and when it is done.
    started_at: float
    done_at: float
    errors: Sequence[dict[str, str]] = ()
    #: Members that are shown as they are: `service_tier`, `webhook_config`, `environment_id`,
    #: `continuation_token`.
    extra: dict[str, Any] = field(default_factory=dict)
    #: Wishes that change how the events of this interaction look.
    plan: Plan = NOTHING
    #: The token of a checkpoint inside the stream, and the number of events before it.
    checkpoint: tuple[int, str] | None = None
    cancelled_at: float | None = None
    flat: bool = False
    #: GETs are answered with 404 until then, and so many times.
    hidden_until: float = 0.0
    hidden_gets: int = 0
    #: False: answers to the create have no `usage`; GETs have it from then on, after so many without.
    usage_live: bool = True
    usage_at: float = 0.0
    usage_gets: int = 0

    def status_at(self, now: float) -> str:
        """The status that can be seen at `now`."""
        if self.cancelled_at is not None:
            return "cancelled"
        if now >= self.done_at:
            return self.status
        return "queued" if now < self.started_at else "in_progress"

    def updated_at(self, now: float) -> float:
        """When the visible state was reached."""
        if self.cancelled_at is not None:
            return self.cancelled_at
        if now >= self.done_at:
            return self.done_at
        return self.created if now < self.started_at else self.started_at

    def head(self, now: float, *, complete: bool = True) -> dict[str, Any]:
        """The members of the resource other than its steps and usage (contract 3.3)."""
        status = self.status_at(now)
        kind, name = self.actor
        head: dict[str, Any] = {"status": status, "object": "interaction", kind: name}
        if self.stored:
            head["id"] = self.id
        if not complete:
            return head
        head["created"] = timestamp(self.created)
        head["updated"] = timestamp(self.updated_at(now))
        if self.previous is not None:
            head["previous_interaction_id"] = self.previous
        if self.errors and status == self.status:
            head["errors"] = self.errors
        head.update(self.extra)
        return head

    def finished(self, now: float) -> bool:
        """Whether everything about the answer can be seen."""
        return self.cancelled_at is None and now >= self.done_at

    def resource(self, now: float, steps: bytes, *, usage: bool, echo: bool = False) -> bytes:
        """The interaction as JSON, with `steps`, and perhaps with usage and with the input as it was sent."""
        body = self.head(now)
        if echo:
            body["input"] = orjson.loads(self.body).get("input")
        if self.flat:
            body["outputs"] = flat(steps)
        elif steps != b"[]":
            body["steps"] = orjson.Fragment(steps)
        if usage and self.finished(now):
            body["usage"] = orjson.Fragment(self.usage)
        return orjson.dumps(body)

    def input_steps(self) -> list[Step]:
        """The steps that the client sent."""
        value = orjson.loads(self.body).get("input")
        return [] if value is None else steps_of(value)

    def usage_for_get(self, now: float) -> bool:
        """Whether this GET shows usage; counts the GET."""
        if self.usage_live:
            return True
        if self.usage_gets > 0:
            self.usage_gets -= 1
            return False
        return now >= self.usage_at

    def hidden(self, now: float) -> bool:
        """Whether this GET is answered as if the interaction did not exist; counts the GET."""
        if now < self.hidden_until:
            return True
        if self.hidden_gets > 0:
            self.hidden_gets -= 1
            return True
        return False


def flat(steps: bytes) -> list[dict[str, Any]]:
    """What these steps, as JSON, contain as flat outputs."""
    return [part for step in orjson.loads(steps) for part in step.get("content", ())]


class Records:
    """All interactions that can still be found."""

    def __init__(self, retention: float) -> None:
        self._retention = retention
        self._by_id: dict[str, Record] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, record: Record) -> None:
        """Keep a record."""
        self._by_id[record.id] = record

    def find(self, name: str, key: str, now: float) -> Record:
        """The record of that id.

        Raises NotFound when it never existed, was deleted or forgotten, has expired, or belongs to another
        key: all of these look alike (contract 6).
        """
        record = self._by_id.get(name)
        if record is not None and now >= record.created + self._retention:
            del self._by_id[name]
            record = None
        if record is None or record.key != key:
            raise NotFound(f"Interaction '{name}' was not found.")
        return record

    def forget(self, name: str) -> bool:
        """Lose a record; False if there was none."""
        return self._by_id.pop(name, None) is not None

    def forget_all(self) -> int:
        """Lose every record; returns how many there were."""
        count = len(self._by_id)
        self._by_id.clear()
        return count

    def all(self) -> list[Record]:
        """Every record, oldest first."""
        return list(self._by_id.values())


NEVER = math.inf
