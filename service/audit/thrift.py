"""As much of Thrift's compact protocol as is written in a Parquet file (its ``thrift-compact-protocol.md``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

_I32: Final = 5
_I64: Final = 6
_BINARY: Final = 8
_LIST: Final = 9
_STRUCT: Final = 12
#: From how many members on the size of a list stands behind its head.
_LONG: Final = 15


#: A value as it is written, behind the number of its type.
Value = tuple[int, bytes]


def varint(number: int) -> bytes:
    """A number that is not negative, seven bits a byte."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def i32(number: int) -> Value:
    """A number of 32 bits."""
    return _I32, varint(number << 1 if number >= 0 else -number * 2 - 1)


def i64(number: int) -> Value:
    """A number of 64 bits."""
    return _I64, i32(number)[1]


def binary(data: bytes) -> Value:
    """Bytes, or a text in UTF-8."""
    return _BINARY, varint(len(data)) + data


def listed(values: Sequence[Value]) -> Value:
    """A list of at least one value, all of one type."""
    kind, count = values[0][0], len(values)
    head = bytes((count << 4 | kind,)) if count < _LONG else bytes((_LONG << 4 | kind,)) + varint(count)
    return _LIST, head + b"".join(written for _, written in values)


def struct(*members: tuple[int, Value]) -> Value:
    """Members, each with its number, which are in order and less than sixteen apart."""
    return _STRUCT, b"".join(_members(members))


def _members(members: Iterable[tuple[int, Value]]) -> Iterable[bytes]:
    before = 0
    for number, (kind, written) in members:
        yield bytes(((number - before) << 4 | kind,))
        yield written
        before = number
    yield b"\0"
