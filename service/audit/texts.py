"""The words of an interaction: what is searched of its input and of its output.

All strings of steps and contents are words, but for those that are no text: ids, types, signatures, inline media. Of a
request that repeats what an earlier one has, only the rest is searched: the repetition is found where it was said.
Scripts that put no spaces between words are taken apart into characters by a separator of no width, so that any run of
them is found as the phrase of its characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from service.errors import InvalidRequest
from service.wire import codec

#: A separator of words that is not seen (U+200B).
NO_WIDTH: Final = "\u200b"
#: Characters that are searched of an input, and of an output.
LONGEST: Final = 100_000
#: Members whose strings are no text.
_NO_TEXT: Final = frozenset(
    {
        "type",
        "id",
        "call_id",
        "data",
        "signature",
        "mime_type",
        "uri",
        "role",
        "object",
        "status",
        "encrypted_content",
        "continuation_token",
    }
)
#: Scripts without spaces: Thai, Lao, Burmese, Khmer, kana, Han and its extensions.
UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
_UNSPACED: Final = re.compile(f"[{UNSPACED}]")
_DEEPEST: Final = 60


def separated(text: str) -> str:
    """The text with characters of unspaced scripts set apart."""
    return text if text.isascii() else _UNSPACED.sub(f"{NO_WIDTH}\\g<0>{NO_WIDTH}", text)


def shown(text: str) -> str:
    """The text as it was, without what :func:`separated` put in."""
    return text.replace(NO_WIDTH, "")


def of_request(raw: bytes, *, start: int | None = None) -> str:
    """What was asked: the system instruction and the input.

    ``start`` is given for a request that is stored without what an earlier one has, and says where that stood.
    """
    body = parsed(raw if start is None else _without_gap(raw, start))
    return _joined((body.get("system_instruction"), body.get("input")))


def of_response(raw: bytes) -> str:
    """What was answered."""
    body = parsed(raw)
    return _joined((body.get("steps"), body.get("outputs")))


def _without_gap(raw: bytes, start: int) -> bytes:
    """A request from whose list the first elements are missing, as JSON: the comma behind them goes as well."""
    rest = raw[start:].lstrip()
    return raw[:start] + rest.removeprefix(b",")


def parsed(raw: bytes) -> dict[str, Any]:
    """A body as an object; an empty one when it is none."""
    try:
        body = codec.loads(raw)
    except InvalidRequest:
        return {}
    return body if isinstance(body, dict) else {}


def _joined(values: tuple[Any, ...]) -> str:
    parts: list[str] = []
    left = LONGEST
    for part in (text for value in values for text in _strings(value, 0)):
        parts.append(part[:left])
        left -= len(part) + 1
        if left <= 0:
            break
    # Neither database takes NUL in a text.
    return separated("\n".join(parts).replace("\0", " ").replace(NO_WIDTH, ""))


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, dict) and depth < _DEEPEST:
        for name, member in value.items():
            if name not in _NO_TEXT:
                yield from _strings(member, depth + 1)
    elif isinstance(value, list) and depth < _DEEPEST:
        for member in value:
            yield from _strings(member, depth + 1)
