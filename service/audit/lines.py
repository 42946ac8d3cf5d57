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
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

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
#: Columns that hold JSON as text.
JSON_TEXTS: Final = frozenset({"labels", "attempts", "usage_detail"})
FLAGS: Final = frozenset({"stream", "background", "store", "upstream_stored"})
BODIES: Final = ("request", "response")
_OTHER_REFERENCES: Final = tuple(sorted(REFERENCES - {"id"}))
_JSON_TEXTS: Final = tuple(sorted(JSON_TEXTS))
_FLAGS: Final = tuple(sorted(FLAGS))
_NULL: Final = b"null"
#: Ids that are remembered as they are written: of parents and roots, which came a little before, of keys and projects.
_REMEMBERED: Final = 16_384


class EventRow(NamedTuple):
    """A batch of the event log, unpacked."""

    first_seq: int
    last_seq: int
    frames: bytes
    upstream_cursor: str | None
    timings: bytes | None


class MediaRow(NamedTuple):
    """Kept media; ``uri_digest`` is :func:`service.store.media.uri_digest` of the URI that names them."""

    uri_digest: bytes
    mime_type: str
    kept_at: int
    body: bytes


class Whole(NamedTuple):
    """Everything that is exported of one interaction; ``row`` begins with :data:`COLUMNS`, in their order."""

    row: Sequence[Any]
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


def line_of(whole: Whole) -> tuple[bytes, ...]:
    """The line, with its end, in pieces: its bodies are the most of it, and are copied when all are joined."""
    members = dict(zip(COLUMNS, whole.row, strict=False))
    name = id_text(members["id"])
    created = timestamp(members["created_at"])
    _write_members(members, name)
    told: dict[str, Any] = {
        "v": VERSION,
        "id": name,
        "created": created,
        "project": {"id": uuid_text(whole.project_id), "name": whole.project},
        "interaction": members,
    }
    if whole.events:
        told["events"] = [_event(event) for event in whole.events]
    if whole.media:
        told["media"] = [_media(one) for one in whole.media]
    if whole.damage is not None:
        told["damage"] = whole.damage
    request = _shown(told, "request", whole.request)
    response = _shown(told, "response", whole.response)
    return orjson.dumps(told)[:-1], b',"request":', request, b',"response":', response, b"}\n"


def _shown(told: dict[str, Any], name: str, body: bytes | None) -> bytes:
    """A body as a line shows it; one that cannot stand there as it is, is told exactly beside it."""
    if body is None:
        return _NULL
    if is_one_line(body):
        return body
    told.update(_exact(name, body))
    return _parsed(body)


def is_one_line(body: bytes) -> bool:
    """Whether a body can stand in a line as it is."""
    return body[:1] == b"{" and body[-1:] == b"}" and b"\n" not in body and b"\r" not in body


def _write_members(members: dict[str, Any], name: str) -> None:
    """Have the columns of a row as JSON has them; most are so already."""
    members["id"] = name
    for reference in _OTHER_REFERENCES:
        if (key := members[reference]) is not None:
            members[reference] = id_text(key)
    for told in _JSON_TEXTS:
        if (text := members[told]) is not None:
            members[told] = orjson.Fragment(text)
    for flag in _FLAGS:
        members[flag] = bool(members[flag])
    if (key := members["key_id"]) is not None:
        members["key_id"] = uuid_text(key)


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


def _parsed(body: bytes) -> bytes:
    try:
        return codec.dumps(codec.loads(body))
    except InvalidRequest:
        return _NULL
