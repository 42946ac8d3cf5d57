"""What goes into the store and what comes out of it, as plain data. Times are microseconds since the epoch.

What every create makes two of is a named tuple: making a frozen dataclass of that width costs as much as writing it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from service.store.aliases import by_hash

#: Statuses after which upstream changes nothing any more (contract 3.4).
TERMINAL = frozenset(
    {
        "completed",
        "failed",
        "cancelled",
        "incomplete",
        "requires_action",
        "budget_exceeded",
        "requires_continuation",
    }
)
#: Every status that an interaction can have.
STATUSES = TERMINAL | {"in_progress", "queued"}
#: Statuses on which a follow-up may build (contract 5.5); a continuation names its token's issuer, whatever its status.
ANCHORS = frozenset({"completed", "requires_action", "incomplete"})

USAGE_NONE = 0
USAGE_FINAL = 1
USAGE_MISSING = 2
#: What a run that was cancelled or cut had used so far.
USAGE_PARTIAL = 3
#: Every state that the usage of an interaction can have.
USAGE_STATES = frozenset({USAGE_NONE, USAGE_FINAL, USAGE_MISSING, USAGE_PARTIAL})

#: A longer upstream id is nobody's: it is kept with the body, not as an alias.
_LONGEST_ALIAS = 512


def now() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Usage(NamedTuple):
    """The totals of one interaction (contract 3.5)."""

    state: int = USAGE_NONE
    input_tokens: int | None = None
    output_tokens: int | None = None
    thought_tokens: int | None = None
    cached_tokens: int | None = None
    tool_use_tokens: int | None = None
    total_tokens: int | None = None


NO_USAGE: Final = Usage()


class Intent(NamedTuple):
    """Who asks for what, where it is going: written before the first byte goes upstream."""

    id: bytes
    project_id: bytes
    key_id: bytes | None
    previous_id: bytes | None
    root_id: bytes | None
    depth: int
    created_at: int
    revision: int
    stream: bool
    background: bool
    store: bool
    model_requested: str | None
    agent: str | None
    labels: str | None
    deployment_id: str
    upstream_stored: bool
    #: The process that carries it out.
    owner_id: bytes
    replay_of: bytes | None = None

    def row(self, request_bytes: int) -> tuple[object, ...]:
        """The members in the order of ``INSERT_INTENT``."""
        return (
            # From the id to the revision.
            *self[:8],
            # Numbers: SQLite's driver takes a long way round for every value that is a bool.
            +self.stream,
            +self.background,
            +self.store,
            storable(self.model_requested),
            storable(self.agent),
            self.labels,
            request_bytes,
            self.deployment_id,
            +self.upstream_stored,
            self.owner_id,
            "in_progress",
            self.created_at,
            USAGE_NONE,
            self.replay_of,
        )


class Outcome(NamedTuple):
    """What came of an intent; ``completed_at`` is None while upstream still works on it.

    It counts only while ``owner_id`` holds the interaction.
    """

    id: bytes
    deployment_id: str
    upstream_id: str | None
    upstream_stored: bool
    status: str
    model: str | None
    service_tier: str | None
    http_status: int
    error_code: str | None
    error_message: str | None
    attempts: str | None
    updated_at: int
    first_byte_at: int | None
    completed_at: int | None
    usage: Usage
    owner_id: bytes
    #: Whether somebody may wish to be told of it; where that is not known, they are looked for.
    announced: bool = True

    @property
    def owes_usage(self) -> bool:
        """Whether upstream can still be asked for usage that it has not told."""
        return (
            self.usage.state == USAGE_MISSING
            and self.completed_at is not None
            and self.upstream_stored
            and self.upstream_id is not None
        )

    def row(self, response_bytes: int | None, place: Callable[[str], int] = by_hash) -> tuple[object, ...]:
        """The members in the order of ``FINISH``; ``place`` is where an upstream id stands in its index."""
        upstream_id = self.upstream_id
        if not upstream_id or len(upstream_id) > _LONGEST_ALIAS:
            upstream_id = None
        return (
            self.id,
            self.deployment_id,
            storable(upstream_id),
            place(upstream_id) if upstream_id is not None else None,
            +self.upstream_stored,
            storable(self.status),
            storable(self.model),
            storable(self.service_tier),
            self.http_status,
            storable(self.error_code),
            storable(self.error_message),
            response_bytes,
            self.attempts,
            self.updated_at,
            self.first_byte_at,
            self.completed_at,
            *self.usage,
            self.owner_id,
        )


@dataclass(frozen=True, slots=True)
class Record:
    """A stored interaction as its project may see it; ``response`` is upstream's body, None before there is one."""

    id: bytes
    project_id: bytes
    previous_id: bytes | None
    root_id: bytes | None
    depth: int
    created_at: int
    stream: bool
    background: bool
    store: bool
    model_requested: str | None
    agent: str | None
    deployment_id: str
    upstream_id: str | None
    upstream_stored: bool
    upstream_gone_at: int | None
    status: str
    model: str | None
    http_status: int | None
    error_code: str | None
    error_message: str | None
    attempts: str | None
    updated_at: int
    first_byte_at: int | None
    completed_at: int | None
    usage_state: int
    owner_id: bytes
    response: bytes | None

    @property
    def terminal(self) -> bool:
        """Whether the outcome is final."""
        return self.completed_at is not None


@dataclass(frozen=True, slots=True)
class Link:
    """One interaction of a chain with the bodies that a rebuild needs."""

    id: bytes
    status: str
    agent: str | None
    deleted: bool
    created_at: int
    deployment_id: str
    request: bytes | None
    response: bytes | None


def storable(value: str | None) -> str | None:
    """Text as both databases take it: PostgreSQL has no NUL in text."""
    return value.replace("\0", "\ufffd") if value is not None and "\0" in value else value
