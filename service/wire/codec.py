"""JSON in and out, exactly.

orjson is the codec, with one correction: it reads an integer beyond 64 bits as a float and refuses to write
one. A document that may hold such an integer is read once more by the standard library, and written by it if
orjson refuses, so every integer a caller sends arrives unchanged. Floats are IEEE doubles, as everywhere in
JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

from service.errors import InvalidRequest

#: Levels of what comes from outside. orjson reads 1,024 and writes 254, the standard library fewer than a thousand of
#: both; whoever tells a document again wraps it in some more. Google's own parser takes a hundred.
DEEPEST: Final = 200
_OVERFLOW = 2.0**63
# No shorter number can overflow; looking for so many digits in the text is cheaper than looking at every value.
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN_DIGITS = b"0" * 19
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class NestedTooDeeply(InvalidRequest):
    """JSON that could not be written again, or not even be read, for its levels."""


def loads(raw: bytes) -> Any:
    """Parse strict JSON (RFC 8259, UTF-8, no lone surrogates) with integers of any size kept exact.

    Raises InvalidRequest with the parser's reason. Of duplicate members the last one counts.
    """
    try:
        value = orjson.loads(raw)
        if _NINETEEN_DIGITS in raw.translate(_DIGITS_ALIKE) and _may_have_lost_an_integer(value):
            # orjson has refused what is not strict JSON, so the lenient parser sees only valid text.
            return json.loads(raw)
    except ValueError as error:
        raise InvalidRequest(f"Invalid JSON payload: {error}") from error
    except RecursionError as error:
        raise NestedTooDeeply("Invalid JSON payload: nested too deeply.") from error
    return value


def loads_foreign(raw: bytes) -> Any:
    """Parse what others have written, as ``loads`` does, if what is made of it can be written again.

    Raises NestedTooDeeply for what is deeper than ``DEEPEST`` levels.
    """
    value = loads(raw)
    # A document is no deeper than it has brackets, nor than half its length, and most have few.
    if len(raw) > 2 * DEEPEST and raw.count(b"{") + raw.count(b"[") > DEEPEST and _is_deep(value):
        raise NestedTooDeeply(f"Invalid JSON payload: nested deeper than {DEEPEST} levels.")
    return value


def loads_replacing(raw: bytes) -> Any:
    """Parse JSON with U+FFFD for all that no UTF-8 can hold: bytes that are none, and lone surrogates (RFC 8259 8.2).

    Raises InvalidRequest for what is no JSON even so, or deeper than ``loads_foreign`` takes.
    """
    try:
        text = json.dumps(json.loads(raw.decode("utf-8", "replace")), ensure_ascii=False)
    except ValueError as error:
        raise InvalidRequest(f"Invalid JSON payload: {error}") from error
    except RecursionError as error:
        raise NestedTooDeeply("Invalid JSON payload: nested too deeply.") from error
    return loads_foreign(_LONE_SURROGATE.sub("\ufffd", text).encode())


def dumps(value: Any) -> bytes:
    """Serialise what ``loads`` returns, compactly, as UTF-8.

    Raises InvalidRequest if it is nested too deeply to be written.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except RecursionError as error:
        raise InvalidRequest("JSON is nested too deeply to be forwarded.") from error


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [
            item
            for holder in level
            for item in (holder.values() if type(holder) is dict else holder)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return False
    return True


def _may_have_lost_an_integer(value: Any) -> bool:
    """Whether a float in the value is so large that it may stand for an integer beyond 64 bits."""
    pending = [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is dict:
            pending.extend(item.values())
        elif kind is list:
            pending.extend(item)
        elif kind is float and not -_OVERFLOW < item < _OVERFLOW:
            return True
    return False
