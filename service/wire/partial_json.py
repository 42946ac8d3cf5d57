"""The end of a JSON text whose beginning is given, so that the whole says a certain value.

Arguments arrive as fragments of upstream's own JSON text (contract 4.4), in its spacing, order of members and
escapes, none of which is known from the value. So the beginning is read along the value, and where it breaks
off the value is written out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from service.errors import InvalidRequest
from service.wire import codec

_BLANK: Final = re.compile(r"[ \t\n\r]*+")
#: The inside of a string up to its end, or to an escape that is not complete.
_INSIDE: Final = re.compile(r'(?:[^"\\]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
_HALF_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_BARE: Final = re.compile(r"[^ \t\n\r,\]}]*+")
_LOW_SURROGATES: Final = range(0xDC00, 0xE000)


def completion(beginning: str, value: Any) -> str | None:
    """What makes ``beginning`` a JSON text (RFC 8259) that says ``value``; empty if it is one already.

    None if no continuation says the value, or it is nested too deeply to be followed.
    """
    reader = _Reader(beginning)
    try:
        missing = reader.value(value)
        return (missing or "") if reader.ended() else None
    except (_DiffersError, RecursionError):
        return None


class _DiffersError(Exception):
    """The text says something else than the value."""


class _Reader:
    """Reads a text along a value. What reads a part returns what is missing of it, None if it is complete."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def ended(self) -> bool:
        """Skip blanks; whether nothing follows them."""
        self._at = self._end_of(_BLANK)
        return self._at == len(self._text)

    def value(self, value: Any) -> str | None:
        if self.ended():
            return _dumps(value)
        match self._text[self._at]:
            case "{" if isinstance(value, dict):
                return self._object(value)
            case "[" if isinstance(value, list):
                return self._array(value)
            case '"' if isinstance(value, str):
                return self._string([value])[1]
            case "{" | "[" | '"':
                raise _DiffersError
            case _:
                return self._bare(value)

    def _object(self, value: dict[str, Any]) -> str | None:
        left = dict(value)
        self._at += 1
        if self.ended():
            return _dumps(left)[1:]
        if not left:
            self._expect("}")
            return None
        while True:
            if self.ended():
                return _dumps(left)[1:]
            name, missing = self._string(left)
            member = left.pop(name)
            if missing is not None or self.ended():
                return f"{missing or ''}:{_dumps(member)}{_rest(left, '}')}"
            self._expect(":")
            missing = self.value(member)
            if missing is not None or self.ended():
                return (missing or "") + _rest(left, "}")
            if not left:
                self._expect("}")
                return None
            self._expect(",")

    def _array(self, value: list[Any]) -> str | None:
        self._at += 1
        if self.ended():
            return _dumps(value)[1:]
        for position, item in enumerate(value, 1):
            missing = self.value(item)
            if missing is not None or self.ended():
                return (missing or "") + _rest(value[position:], "]")
            if position < len(value):
                self._expect(",")
        self._expect("]")
        return None

    def _string(self, candidates: Iterable[str]) -> tuple[str, str | None]:
        """Read a string that is one of the candidates: the one it is, or the first it can become."""
        self._expect('"')
        begin, end = self._at, self._end_of(_INSIDE)
        self._at = len(self._text)
        inside, behind = self._text[begin:end], self._text[end : end + 1]
        said = json.loads(f'"{inside}"', strict=False)
        if behind == '"':
            self._at = end + 1
            if said in candidates:
                return said, None
            raise _DiffersError
        escape = self._text[end:]
        if not escape or _HALF_ESCAPE.fullmatch(escape):
            for candidate in candidates:
                missing = _rest_of_string(said, escape, candidate)
                if missing is not None:
                    return candidate, missing
        raise _DiffersError

    def _bare(self, value: Any) -> str | None:
        """Read a number or a literal. One that ends with the text may not be complete."""
        begin, self._at = self._at, self._end_of(_BARE)
        text = self._text[begin : self._at]
        if _says(text, value):
            return None
        if self._at == len(self._text) and not isinstance(value, dict | list | str):
            for spelling in (_dumps(value), repr(value)):
                if spelling.startswith(text) and _says(spelling, value):
                    return spelling[len(text) :]
        raise _DiffersError

    def _expect(self, character: str) -> None:
        if self.ended() or self._text[self._at] != character:
            raise _DiffersError
        self._at += 1

    def _end_of(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        return match.end() if match is not None else self._at


def _rest_of_string(said: str, escape: str, whole: str) -> str | None:
    """What follows ``said`` and the beginning of an escape in a JSON string that says ``whole``.

    An escape stands for a UTF-16 code unit, which may be half a character.
    """
    units, known = _units(whole), _units(said)
    if not units.startswith(known):
        return None
    left = units[len(known) :]
    text = ""
    while escape or (left and int.from_bytes(left[:2], "big") in _LOW_SURROGATES):
        spelt = f"\\u{left[:2].hex()}"
        if not left or not spelt.startswith(escape.lower()):
            return None
        text += spelt[len(escape) :]
        escape, left = "", left[2:]
    return text + _dumps(left.decode("utf-16-be"))[1:]


def _units(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


def _says(text: str, value: Any) -> bool:
    try:
        said = codec.loads(text.encode())
    except (InvalidRequest, UnicodeEncodeError):
        return False
    return bool(said == value) and isinstance(said, bool) == isinstance(value, bool)


def _rest(left: dict[str, Any] | list[Any], end: str) -> str:
    return f",{_dumps(left)[1:]}" if left else end


def _dumps(value: Any) -> str:
    return codec.dumps(value).decode()
