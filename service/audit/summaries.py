"""An interaction in a list: everything that it can be found by, and no bodies."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, select

from service.store.kept_holds import labels_of
from service.store.tables import api_keys, interactions, projects
from service.wire import ids

TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "thought_tokens",
    "cached_tokens",
    "tool_use_tokens",
    "total_tokens",
)
#: In UTC, without saying so.
_EPOCH: Final = datetime(1970, 1, 1)
#: The columns of a row that a summary is made from.
NAMES: Final = (
    "id",
    "project_id",
    "key_id",
    "previous_id",
    "root_id",
    "depth",
    "replay_of",
    "created_at",
    "updated_at",
    "first_byte_at",
    "completed_at",
    "deleted_at",
    "stream",
    "background",
    "store",
    "model_requested",
    "model",
    "agent",
    "labels",
    "deployment_id",
    "upstream_id",
    "status",
    "service_tier",
    "http_status",
    "error_code",
    "error_message",
    "request_bytes",
    "response_bytes",
    "attempts",
    "usage_state",
    "cost_nanos",
    "derived_state",
    *TOKENS,
)
_TOLD: Final = (*NAMES, "project_name", "key_name")


#: What :func:`of_row` is made from.
COLUMNS: Final[tuple[ColumnElement[Any], ...]] = (
    *(interactions.c[name] for name in NAMES),
    select(projects.c.name)
    .where(projects.c.id == interactions.c.project_id)
    .scalar_subquery()
    .label("project_name"),
    select(api_keys.c.name).where(api_keys.c.id == interactions.c.key_id).scalar_subquery().label("key_name"),
)


#: The place of the parent's key in such a row.
PREVIOUS: Final = NAMES.index("previous_id")


def of_row(row: Sequence[Any], cost_nanos: int | None = None) -> dict[str, Any]:
    """The summary of a row of :data:`COLUMNS`; ``cost_nanos`` is what it costs where that is not in the row yet."""
    it: Mapping[str, Any] = dict(zip(_TOLD, row, strict=True))
    cost = it["cost_nanos"] if cost_nanos is None else cost_nanos
    created, first, completed = it["created_at"], it["first_byte_at"], it["completed_at"]
    return {
        "id": ids.to_text(it["id"]),
        "created": timestamp(created),
        "updated": timestamp(it["updated_at"]),
        "completed": timestamp(completed),
        "status": it["status"],
        "model": it["model"] if it["model"] is not None else it["model_requested"],
        "model_requested": it["model_requested"],
        "agent": it["agent"],
        "deployment": it["deployment_id"],
        "project": it["project_name"] or _uuid(it["project_id"]),
        "key_id": None if it["key_id"] is None else _uuid(it["key_id"]),
        "key_name": it["key_name"],
        "labels": labels_of(it["labels"]),
        "previous_interaction_id": _reference(it["previous_id"]),
        "root": ids.to_text(it["root_id"] or it["id"]),
        "depth": it["depth"],
        "replay_of": _reference(it["replay_of"]),
        "stream": bool(it["stream"]),
        "background": bool(it["background"]),
        "store": bool(it["store"]),
        "service_tier": it["service_tier"],
        "http_status": it["http_status"],
        "error_code": it["error_code"],
        "error_message": it["error_message"],
        "duration": seconds(created, completed),
        "first_event": seconds(created, first),
        "usage": usage_of(it),
        "cost": dollars(cost),
        "request_bytes": it["request_bytes"],
        "response_bytes": it["response_bytes"],
        "attempts": 0 if it["attempts"] is None else len(orjson.loads(it["attempts"])),
        "upstream_interaction_id": it["upstream_id"],
        "deleted": timestamp(it["deleted_at"]),
    }


def usage_of(it: Mapping[str, Any]) -> dict[str, int | None] | None:
    """The totals of an interaction; None where upstream told none."""
    counts = {name: it[name] for name in TOKENS}
    return counts if any(count is not None for count in counts.values()) else None


def timestamp(microseconds: int | None) -> str | None:
    """ISO 8601 with microseconds, in UTC."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)
    hour, second = divmod(seconds, 3_600)
    return f"{_hour(hour)}:{second // 60:02}:{second % 60:02}.{rest:06}Z"


@lru_cache(1024)
def _hour(hours: int) -> str:
    return (_EPOCH + timedelta(hours=hours)).isoformat(timespec="hours")


@lru_cache(1024)
def _uuid(key: bytes) -> str:
    return str(uuid.UUID(bytes=key))


def seconds(start: int, end: int | None) -> float | None:
    """How long something took."""
    return None if end is None else (end - start) / 1_000_000


def dollars(nanos: int | None) -> float | None:
    """Billionths of a dollar as dollars."""
    return None if nanos is None else nanos / 1_000_000_000


def _reference(key: bytes | None) -> str | None:
    return None if key is None else ids.to_text(key)
