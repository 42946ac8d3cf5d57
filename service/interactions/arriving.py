"""What upstream sends on a stream: a block is a plain delta, any other event, or no event at all (contract 4)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from service.errors import InvalidRequest
from service.wire import codec, sse

logger = logging.getLogger(__name__)

_DONE: Final = b"[DONE]"
#: How a plain delta begins and ends.
_DELTA: Final = b"event: step.delta\ndata: {"
DELTA_END: Final = b"}" + sse.END
#: Members that are told under our ids.
_OURS: Final = frozenset({"event_id", "interaction", "interaction_id"})


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event of upstream; ``data`` are the bytes of ``body``, if they came from there as they are."""

    body: dict[str, Any]
    data: bytes | None = None
    #: Upstream's own cursor for it (contract 4.6).
    cursor: str | None = None


class MalformedStream(Exception):
    """The stream ended or went on in a way that no interaction does."""


class UnreadableEvent(MalformedStream):
    """An event that came whole and can be read by nobody here, however often it is sent."""


def plain_delta(event: bytes) -> dict[str, Any] | None:
    """The body of a delta that may be told as it came, which nearly every event is; None for anything else.

    ``event`` is a block with the blank line that ends it.
    """
    if (
        not event.startswith(_DELTA)
        or not event.endswith(DELTA_END)
        or event.find(b"\n", len(_DELTA)) != len(event) - len(sse.END)
        or b"\r" in event
    ):
        return None
    try:
        body: dict[str, Any] = codec.loads_foreign(event[len(_DELTA) - 1 :])
    except InvalidRequest:
        return None
    if body.get("event_type") != "step.delta" or type(body.get("index")) is not int:
        return None
    return body if _OURS.isdisjoint(body) else None


def arrived_as(block: bytes) -> Arrived | None:
    """The event of a block; None for a comment, for the end's mark, and for a value that says nothing.

    Raises :class:`MalformedStream` for what is no event.
    """
    data = sse.data_of(block)
    if not data or data == _DONE:
        return None
    body, as_it_came = _parsed(data)
    if body is None or isinstance(body, str | int | float):
        logger.warning("upstream sent %r for an event, which is skipped", data[:60])
        return None
    if not isinstance(body, dict):
        raise MalformedStream("Upstream broke off the stream with something that is not an event.")
    if "event_type" not in body:
        as_it_came = False
        body["event_type"] = (sse.event_name(block) or b"error").decode("utf-8", "replace")
    cursor = body.get("event_id")
    if not isinstance(cursor, str) or not cursor:
        cursor = None
    return Arrived(body, data if as_it_came else None, cursor)


def _parsed(data: bytes) -> tuple[Any, bool]:
    """An event, and whether its bytes may be told: what was paid for is kept, though some of it is no text."""
    as_it_came = True
    try:
        body = codec.loads_foreign(data)
    except InvalidRequest:
        as_it_came = False
        body = _as_far_as_text(data)
    return body, as_it_came


def _as_far_as_text(data: bytes) -> Any:
    try:
        return codec.loads_replacing(data)
    except codec.NestedTooDeeply as error:
        raise UnreadableEvent(f"Upstream sent an event that cannot be read: {error.message}") from error
    except InvalidRequest as error:
        raise MalformedStream("Upstream sent an event that is not JSON.") from error
