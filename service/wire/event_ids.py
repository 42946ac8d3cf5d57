"""The ids of a stream's events, the cursors to resume it by (contract 4.6), and how an event gets its own.

The event with seq 12 is ``evt_12``. Where a legacy client is told it as several events, the first ones are
``evt_12.1``, ``evt_12.2``, and the last is ``evt_12``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from service.wire import sse

#: As many digits as a 64-bit column is sure to hold.
_CURSOR: Final = re.compile(r"evt_([1-9][0-9]{0,17})(?:\.([1-9][0-9]{0,8}))?")
#: What JSON allows behind a value (RFC 8259 2).
_BLANKS: Final = b" \t\r\n"
#: What every id begins with.
CURSOR: Final = "evt_"


def text(seq: int) -> str:
    """The id of the event with this seq."""
    return f"{CURSOR}{seq}"


def part(seq: int, n: int) -> str:
    """The id of the n-th legacy event, from 1, of those that the event became; the last has the event's id."""
    return f"{CURSOR}{seq}.{n}"


def parse(cursor: str) -> tuple[int, int] | None:
    """The seq and the part that a cursor names, part 0 for the whole event; None if no event can have it."""
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        return None
    return int(match[1]), int(match[2] or 0)


def with_event_id(block_data: bytes, body: dict[str, Any], event_id: str) -> bytes:
    """The event as one block under this id, which is one of ours and needs no escapes.

    ``block_data`` is the JSON text of ``body`` and is kept as it came, with the id put in, if it is one line
    and has no id yet; otherwise ``body`` is serialised. The block has the lines that ``sse.frame`` gives it.
    """
    name = body.get("event_type")
    data = block_data.rstrip(_BLANKS)
    if (
        "event_id" in body
        or not isinstance(name, str)
        or not name
        or "\n" in name
        or "\r" in name
        or b"\n" in data
        or b"\r" in data
        or data[-1:] != b"}"
    ):
        return sse.frame({**body, "event_id": event_id})
    return b'event: %b\ndata: %b,"event_id":"%b"}\n\n' % (name.encode(), data[:-1], event_id.encode())
