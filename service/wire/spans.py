"""Where the elements of a list lie in a request's own bytes.

Nothing is serialised again: the spans are of the bytes as they came, whatever their spacing, order and escapes. The
bytes are read as Latin-1, where every byte is one character, so places in the text are places in the bytes; JSON's own
signs are ASCII, which no part of a longer UTF-8 character is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

_value = json.JSONDecoder().raw_decode
#: Elements of a list that is looked through: a conversation has fewer, and each costs microseconds.
_MOST_ELEMENTS: Final = 10_000
_blank: Final = re.compile(r"[ \t\n\r]*").match


@dataclass(frozen=True, slots=True)
class ListSpan:
    """A list with at least one element: where the first one begins, and where each one ends."""

    start: int
    ends: tuple[int, ...]


def list_span(raw: bytes, member: str) -> ListSpan | None:
    """The span of the list that is the first member of this name in a JSON object; never raises.

    None where there is no such list: no object, no member, another type, no elements, too many of them, text that the
    standard library cannot read. What comes after the list is not looked at.
    """
    text = raw.decode("latin-1")
    try:
        first = _first_element(text, member)
        return None if first is None else ListSpan(first, _ends(text, first))
    except (ValueError, IndexError, RecursionError):
        return None


def _first_element(text: str, member: str) -> int | None:
    place = _expect(text, 0, "{")
    while True:
        name, end = _value(text, place)
        place = _expect(text, end, ":")
        if name == member:
            break
        _, end = _value(text, place)
        place = _expect(text, end, ",")
    if text[place] != "[":
        return None
    first = _after_blank(text, place + 1)
    return None if text[first] == "]" else first


def _ends(text: str, place: int) -> tuple[int, ...]:
    ends: list[int] = []
    while len(ends) < _MOST_ELEMENTS:
        _, end = _value(text, place)
        ends.append(end)
        following = _after_blank(text, end)
        if text[following] == "]":
            return tuple(ends)
        place = _expect(text, following, ",")
    raise ValueError("too many elements")


def _expect(text: str, place: int, sign: str) -> int:
    """The place of what follows this sign; raises ValueError when something else stands here."""
    place = _after_blank(text, place)
    if text[place] != sign:
        raise ValueError(f"expected {sign!r}")
    return _after_blank(text, place + 1)


def _after_blank(text: str, place: int) -> int:
    found = _blank(text, place)
    return place if found is None else found.end()
