"""Interactions as the rows of a table: what CSV and Parquet have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.audit.lines import COLUMNS, Whole, id_text, uuid_text
from service.audit.summaries import TOKENS, dollars, seconds, timestamp

#: The columns of tables: each with whether it is text, a whole number, a number, or a flag.
TABLE: Final[Mapping[str, type]] = {
    "id": str,
    "created": str,
    "completed": str,
    "project": str,
    "key_id": str,
    "status": str,
    "model": str,
    "model_requested": str,
    "agent": str,
    "deployment": str,
    "service_tier": str,
    "labels": str,
    "previous_interaction_id": str,
    "root": str,
    "depth": int,
    "replay_of": str,
    "stream": bool,
    "background": bool,
    "store": bool,
    "upstream_interaction_id": str,
    "http_status": int,
    "error_code": str,
    "error_message": str,
    "duration": float,
    "first_event": float,
    "input_tokens": int,
    "output_tokens": int,
    "thought_tokens": int,
    "cached_tokens": int,
    "tool_use_tokens": int,
    "total_tokens": int,
    "cost": float,
    "deleted": str,
    "request": str,
    "response": str,
}
#: Columns of a row that stand in a table as they are: of what was asked, and of what came.
_ASKED: Final = ("model_requested", "agent", "deployment_id", "service_tier", "labels")
_CAME: Final = ("upstream_id", "http_status", "error_code", "error_message")
_FLAGS: Final = ("stream", "background", "store")


def columns_of(some: Sequence[Whole]) -> list[Sequence[Any]]:
    """The columns of :data:`TABLE`, in their order, but for the bodies, of at least one interaction."""
    told = zip(*[whole.row for whole in some], strict=True)
    of: dict[str, tuple[Any, ...]] = dict(zip(COLUMNS, told, strict=False))
    created, completed, first = of["created_at"], of["completed_at"], of["first_byte_at"]
    return [
        list(map(id_text, of["id"])),
        list(map(timestamp, created)),
        list(map(timestamp, completed)),
        [whole.project or uuid_text(whole.project_id) for whole in some],
        [None if key is None else uuid_text(key) for key in of["key_id"]],
        of["status"],
        [model or requested for model, requested in zip(of["model"], of["model_requested"], strict=True)],
        *(of[name] for name in _ASKED),
        _references(of["previous_id"]),
        [id_text(root or key) for root, key in zip(of["root_id"], of["id"], strict=True)],
        of["depth"],
        _references(of["replay_of"]),
        *(list(map(bool, of[name])) for name in _FLAGS),
        *(of[name] for name in _CAME),
        list(map(seconds, created, completed)),
        list(map(seconds, created, first)),
        *(of[name] for name in TOKENS),
        list(map(dollars, of["cost_nanos"])),
        list(map(timestamp, of["deleted_at"])),
    ]


def _references(keys: Sequence[bytes | None]) -> list[str | None]:
    return [None if key is None else id_text(key) for key in keys]


def utf8(body: bytes | None) -> bytes | None:
    """A body as text; what is none is replaced."""
    if body is None or body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace").encode()
    return body
