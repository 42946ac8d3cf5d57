"""The lines of an export: one JSON object for each interaction, from which the same rows can be made again.

``interaction`` has the columns of the row as they are (times are microseconds since the epoch, costs billionths of a
dollar), ``events`` the log of a stream, ``media`` the bytes that were kept of what the interaction names by URIs, in
base64. ``request`` and ``response`` come last and, where they are one line, byte for byte as they are stored, so that
they can be cut out of the line by their sizes. Where they are not, they are written anew, and ``request_text`` or
``response_text`` has the exact text.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from service.audit.summaries import timestamp
from service.errors import InvalidRequest
from service.store.tables import interactions
from service.wire import codec, ids

VERSION: Final = 1
#: What every database makes for itself.
_OWN: Final = frozenset(
    {"upstream_id_hash", "derived_state", "series_id", "erased_at", "project_id", "owner_id"}
)
#: The columns of a row that a line has, but for its project.
COLUMNS: Final = tuple(str(column.name) for column in interactions.c if column.name not in _OWN)
REFERENCES: Final = frozenset({"id", "previous_id", "root_id", "replay_of"})
_OTHER_REFERENCES: Final = tuple(sorted(REFERENCES - {"id"}))
#: Columns that hold JSON as text.
JSON_TEXTS: Final = frozenset({"labels", "attempts", "usage_detail"})
FLAGS: Final = frozenset({"stream", "background", "store", "upstream_stored"})
BODIES: Final = ("request", "response")
#: Ids that are remembered as they are written: of parents and roots, which came a little before, of keys and projects.
_REMEMBERED: Final = 16_384


@dataclass(frozen=True, slots=True)
class EventRow:
    """A batch of the event log, unpacked."""

    first_seq: int
    last_seq: int
    frames: bytes
    upstream_cursor: str | None
    timings: bytes | None


@dataclass(frozen=True, slots=True)
class MediaRow:
    """Kept media; ``uri_digest`` is :func:`service.store.media.uri_digest` of the URI that names them."""

    uri_digest: bytes
    mime_type: str
    kept_at: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything that is exported of one interaction; ``row`` has the members of :data:`COLUMNS`, in their order."""

    row: Mapping[str, Any]
    project_id: bytes
    project: str | None
    request: bytes | None
    response: bytes | None
    events: Sequence[EventRow]
    #: Why the request cannot be told, if it cannot.
    damage: str | None = None
    media: Sequence[MediaRow] = ()


@lru_cache(_REMEMBERED)
def id_text(key: bytes) -> str:
    """The id of an interaction as callers know it."""
    return ids.to_text(key)


@lru_cache(_REMEMBERED)
def uuid_text(key: bytes) -> str:
    """The id of a project or of an API key as callers know it."""
    return str(uuid.UUID(bytes=key))


def line_of(whole: Whole) -> bytes:
    """The line, with its end."""
    row = whole.row
    name = id_text(row["id"])
    told: dict[str, Any] = {
        "v": VERSION,
        "id": name,
        "created": timestamp(row["created_at"]),
        "project": {"id": uuid_text(whole.project_id), "name": whole.project},
        "interaction": _members(row, name),
    }
    if whole.events:
        told["events"] = [_event(event) for event in whole.events]
    if whole.media:
        told["media"] = [_media(one) for one in whole.media]
    if whole.damage is not None:
        told["damage"] = whole.damage
    shown = _shown(told, "request", whole.request), _shown(told, "response", whole.response)
    told["request"], told["response"] = shown
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def _shown(told: dict[str, Any], name: str, body: bytes | None) -> Any:
    """A body as a line shows it; one that cannot stand there as it is, is told exactly beside it."""
    if body is None:
        return None
    if is_one_line(body):
        return orjson.Fragment(body)
    told.update(_exact(name, body))
    return _parsed(body)


def is_one_line(body: bytes) -> bool:
    """Whether a body can stand in a line as it is."""
    return body[:1] == b"{" and body[-1:] == b"}" and b"\n" not in body and b"\r" not in body


def _members(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The columns of a row as JSON has them; most are as they are."""
    told = {**row, "id": key}
    for name in _OTHER_REFERENCES:
        if (reference := told[name]) is not None:
            told[name] = id_text(reference)
    for name in JSON_TEXTS:
        if (text := told[name]) is not None:
            told[name] = orjson.Fragment(text)
    for name in FLAGS:
        told[name] = bool(told[name])
    if told["key_id"] is not None:
        told["key_id"] = uuid_text(told["key_id"])
    return told


def _event(event: EventRow) -> dict[str, Any]:
    told: dict[str, Any] = {"first_seq": event.first_seq, "last_seq": event.last_seq}
    try:
        told["frames"] = event.frames.decode()
    except UnicodeDecodeError:
        told["frames_base64"] = base64.b64encode(event.frames).decode()
    if event.upstream_cursor is not None:
        told["upstream_cursor"] = event.upstream_cursor
    if event.timings is not None:
        told["timings"] = base64.b64encode(event.timings).decode()
    return told


def _media(one: MediaRow) -> dict[str, Any]:
    return {
        "uri_digest": one.uri_digest.hex(),
        "mime_type": one.mime_type,
        "kept_at": one.kept_at,
        "base64": base64.b64encode(one.body).decode(),
    }


def _exact(name: str, body: bytes) -> dict[str, str]:
    try:
        return {f"{name}_text": body.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(body).decode()}


def _parsed(body: bytes) -> Any:
    try:
        return orjson.Fragment(codec.dumps(codec.loads(body)))
    except InvalidRequest:
        return None
