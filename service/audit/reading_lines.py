"""From a line of an export to the rows that it was made from (:mod:`service.audit.lines`)."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from sqlalchemy import BigInteger, Boolean, SmallInteger

from service.audit.conditions import moment_of
from service.audit.lines import BODIES, JSON_TEXTS, REFERENCES, VERSION, EventRow, MediaRow, is_one_line
from service.audit.moments import LATEST
from service.errors import InvalidRequest
from service.interactions.calls import REVISION_NUMBERS
from service.store.aliases import by_hash
from service.store.bringing_in import ROW, Kind, holder_of
from service.store.records import STATUSES, USAGE_STATES, now
from service.store.tables import NOBODY, interactions
from service.wire import codec, ids

_NUMBERS: Final = (BigInteger, SmallInteger)
_MOST: Final = 2**63
#: Counts and bytes of one interaction; times are fewer.
_LARGEST: Final = 2**53
_SMALL: Final = 2**15
#: Microseconds that the clock of another machine may be ahead.
_AHEAD: Final = 86_400_000_000
_DIGEST: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Brought:
    """One interaction; ``row`` has the columns of :data:`service.store.bringing_in.ROW`."""

    id: bytes
    project_id: bytes
    project: str | None
    previous_id: bytes | None
    depth: int
    completed_at: int | None
    owner_id: bytes
    row: tuple[Any, ...]
    request: bytes | None
    response: bytes | None
    events: tuple[EventRow, ...]
    media: tuple[MediaRow, ...]


def rows_of_line(line: bytes) -> Brought | None:
    """The interaction of a line, or None for a manifest; raises :class:`InvalidRequest` for any other line."""
    told = codec.loads(line)
    if not isinstance(told, dict):
        raise InvalidRequest("Expected the object of an interaction.")
    if "manifest" in told:
        return None
    if told.get("v") != VERSION:
        raise InvalidRequest(
            f"'v' is {told.get('v')!r}, and this version of the service reads {VERSION}; import it by the version that "
            "exported it, or a newer one."
        )
    members = _object(told, "interaction")
    project = _object(told, "project")
    key = _reference("id", members.get("id"))
    project_id = _uuid("project.id", project.get("id"))
    if key is None or project_id is None:
        raise InvalidRequest("'interaction.id' and 'project.id' must be there.")
    row = {name: _column(name, members.get(name)) for name in ROW if name in members}
    row["project_id"] = project_id
    upstream_id = row.get("upstream_id")
    row["upstream_id_hash"] = None if upstream_id is None else by_hash(upstream_id)
    row["owner_id"] = NOBODY if row.get("completed_at") is not None else _holder(row)
    # What is deleted came without content.
    row["erased_at"] = row.get("deleted_at")
    _check(key, row)
    request, response = _bodies(line, told, members)
    for size, body in (("request_bytes", request), ("response_bytes", response)):
        if body is not None:
            # Who has written the line anew may have written its bodies in another way.
            row[size] = len(body)
    name = project.get("name")
    return Brought(
        key,
        project_id,
        name if isinstance(name, str) and name else None,
        row.get("previous_id"),
        row["depth"],
        row.get("completed_at"),
        row["owner_id"],
        tuple(row.get(column) for column in ROW),
        request,
        response,
        tuple(_event(event) for event in _list(told, "events")),
        tuple(_media(one) for one in _list(told, "media")),
    )


def _holder(row: Mapping[str, Any]) -> bytes:
    """Who holds what is still open: another import may bring its end."""
    askable = row.get("upstream_id") is not None and row.get("upstream_stored")
    return holder_of(Kind.ASKABLE if askable else Kind.SILENT, now())


def _check(key: bytes, row: Mapping[str, Any]) -> None:
    # What has a time to come is a part of every report on usage, which would go on until then.
    if moment_of(key) > now() + _AHEAD:
        raise InvalidRequest("'interaction.id' has a time that is more than a day ahead.")
    if row.get("status") not in (None, *STATUSES):
        raise InvalidRequest(
            f"'interaction.status' is {row['status'][:50]!r}. Expected one of {', '.join(sorted(STATUSES))}."
        )
    _check_number(row, "revision", REVISION_NUMBERS.values())
    _check_number(row, "usage_state", USAGE_STATES)
    for name in ROW:
        if row.get(name) is None and not interactions.c[name].nullable:
            raise InvalidRequest(f"'interaction.{name}' is missing.")
    above = (row.get("previous_id"), row.get("root_id"))
    follows = row["depth"] > 0
    if any((one is not None) != follows for one in above) or key in above:
        raise InvalidRequest(
            "'interaction.previous_id', 'root_id' and 'depth' contradict each other: what follows another interaction "
            "has an id in both, its own id in neither, and a depth of 1 or more; what follows none has 0."
        )


def _check_number(row: Mapping[str, Any], name: str, known: Collection[int]) -> None:
    if row.get(name) not in (None, *known):
        expected = ", ".join(map(str, sorted(known)))
        raise InvalidRequest(f"'interaction.{name}' is {row[name]}. Expected one of {expected}.")


def _column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in REFERENCES:
        return _reference(name, value)
    if name == "key_id":
        return _uuid(name, value)
    if name in JSON_TEXTS:
        return _json(name, value)
    kind = interactions.c[name].type
    if isinstance(kind, Boolean):
        return +_checked(name, value, bool, "a boolean")
    if isinstance(kind, _NUMBERS):
        number: int = _checked(name, value, int, "a whole number")
        if isinstance(value, bool) or not 0 <= number < _bound(name):
            raise InvalidRequest(f"'interaction.{name}' is no number that fits.")
        if name.endswith("_at") and not _is_moment(number):
            raise InvalidRequest(f"'interaction.{name}' is no time between 1970 and 9999, in microseconds.")
        return number
    text: str = _checked(name, value, str, "a string")
    if "\0" in text:
        raise InvalidRequest(f"'interaction.{name}' has a NUL character.")
    return text


def _bound(name: str) -> int:
    if isinstance(interactions.c[name].type, SmallInteger):
        return _SMALL
    return _MOST if name.endswith("_at") or name == "cost_nanos" else _LARGEST


def _json(name: str, value: Any) -> str:
    """What is read as JSON again: a list of objects, or an object, of strings if it has labels."""
    if name == "attempts":
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise InvalidRequest("'interaction.attempts' is not a list of objects.")
    elif not isinstance(value, dict):
        raise InvalidRequest(f"'interaction.{name}' is not an object.")
    elif name == "labels":
        _check_labels(value)
    return codec.dumps(value).decode()


def _check_labels(labels: Mapping[str, Any]) -> None:
    for label, value in labels.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"'interaction.labels' has {label[:50]!r}, which is not a string.")


def _checked(name: str, value: Any, kind: type, expected: str) -> Any:
    if not isinstance(value, kind):
        raise InvalidRequest(f"'interaction.{name}' is not {expected}.")
    return value


def _reference(name: str, value: Any) -> bytes | None:
    if value is None:
        return None
    key = ids.from_text(value) if isinstance(value, str) else None
    if key is None:
        raise InvalidRequest(f"'interaction.{name}' is no id of an interaction (int_...).")
    return key


def _uuid(name: str, value: Any) -> bytes | None:
    try:
        return None if value is None else uuid.UUID(value).bytes
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidRequest(f"'{name}' is no UUID.") from error


def _object(told: dict[str, Any], name: str) -> dict[str, Any]:
    value = told.get(name)
    if not isinstance(value, dict):
        raise InvalidRequest(f"'{name}' is not an object.")
    return value


def _list(told: dict[str, Any], name: str) -> list[Any]:
    value = told.get(name, [])
    if not isinstance(value, list):
        raise InvalidRequest(f"'{name}' is not a list.")
    return value


def _bodies(line: bytes, told: dict[str, Any], members: dict[str, Any]) -> tuple[bytes | None, bytes | None]:
    """Both bodies: cut out of the line where they stand in it as they were, else by their exact text."""
    rest: bytes | None = line.rstrip()[:-1]
    found: dict[str, bytes | None] = {}
    for name in reversed(BODIES):
        rest, body = _cut(rest, name, told.get(name), members.get(f"{name}_bytes"))
        found[name] = _exact(told, name) or body
    if found["request"] is not None:
        # Whoever reads it again goes by its members.
        _object(told, "request")
    return found["request"], found["response"]


def _cut(rest: bytes | None, name: str, value: Any, size: Any) -> tuple[bytes | None, bytes | None]:
    """What comes before a member at the end, and its text; its text written anew where it is not the one of the row."""
    mark = b',"%b":' % name.encode()
    if rest is not None and value is None and rest.endswith(mark + b"null"):
        return rest[: -len(mark) - 4], None
    plain = None if value is None else codec.dumps(value)
    for length in (size, None if plain is None else len(plain)):
        if rest is None or not isinstance(length, int) or isinstance(length, bool) or length <= 0:
            continue
        body = rest[-length:]
        if rest[:-length].endswith(mark) and is_one_line(body):
            return rest[: -length - len(mark)], body
    return None, plain


def _exact(told: dict[str, Any], name: str) -> bytes | None:
    text = told.get(f"{name}_text")
    if isinstance(text, str):
        return text.encode()
    return _base64(f"{name}_base64", told.get(f"{name}_base64"))


def _event(value: Any) -> EventRow:
    if not isinstance(value, dict):
        raise InvalidRequest("'events' has something that is not an object.")
    first, last, cursor = value.get("first_seq"), value.get("last_seq"), value.get("upstream_cursor")
    if not isinstance(first, int) or not isinstance(last, int) or not 0 < first <= last < _MOST:
        raise InvalidRequest("'events' has a batch without 'first_seq' and 'last_seq'.")
    if cursor is not None and not isinstance(cursor, str):
        raise InvalidRequest("'events' has an 'upstream_cursor' that is not a string.")
    text = value.get("frames")
    frames = text.encode() if isinstance(text, str) else _base64("frames_base64", value.get("frames_base64"))
    if frames is None:
        raise InvalidRequest("'events' has a batch without 'frames'.")
    return EventRow(first, last, frames, cursor, _base64("timings", value.get("timings")))


def _media(value: Any) -> MediaRow:
    if not isinstance(value, dict):
        raise InvalidRequest("'media' has something that is not an object.")
    digest, mime_type, kept_at = (value.get(name) for name in ("uri_digest", "mime_type", "kept_at"))
    body = _base64("media.base64", value.get("base64"))
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None or body is None:
        raise InvalidRequest("'media' has a file without 'uri_digest' (32 hexadecimal digits) and 'base64'.")
    if not isinstance(mime_type, str) or "\0" in mime_type or not _is_moment(kept_at):
        raise InvalidRequest("'media' has a file without 'mime_type' and 'kept_at'.")
    return MediaRow(bytes.fromhex(digest), mime_type, kept_at, body)


def _is_moment(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LATEST


def _base64(name: str, value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise InvalidRequest(f"'{name}' is not base64.") from error
