"""Exports as Parquet files (the format's ``README.md`` and ``parquet.thrift``), put together from pages.

Each portion is one page of every column, compressed; a row group is as many of them as are worth one. So whoever puts
the file together copies bytes, and holds no more than a row group of what is compressed already. Readers are pyarrow,
DuckDB and their like; a library that writes such files itself takes more memory than all else of an export.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from typing import Any, Final

import orjson
import zstandard

from service.audit.lines import BODIES, Whole
from service.audit.portions import Portion
from service.audit.tables import TABLE, columns_of, utf8
from service.audit.thrift import Value, binary, i32, i64, listed, struct, varint

_MAGIC: Final = b"PAR1"
_SIZE: Final = Struct("<I")
#: Bytes of a row group: larger ones are read faster, and a file has fewer.
_ROW_GROUP: Final = 4 * 1024 * 1024
_LEVEL: Final = 1
#: The format's numbers for types, for ``OPTIONAL``, ``UTF8``, the encodings ``PLAIN`` and ``RLE``, and ``ZSTD``.
_TYPES: Final = {bool: 0, int: 2, float: 5, str: 6}
_OPTIONAL: Final = 1
_UTF8: Final = 0
_PLAIN: Final = 0
_RLE: Final = 3
_ZSTD: Final = 6
_VERSION: Final = 1
_CREATED_BY: Final = b"interactions-service"
#: Columns that are more or less in the order of rows, so that their bounds tell readers what to leave out.
_BOUNDED: Final = ("id", "created")


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of one column in a portion: its bytes, how many they are unpacked, rows, and nulls among them."""

    data: bytes | memoryview
    raw: int
    rows: int
    nulls: int
    least: str | None = None
    most: str | None = None


class Parquet:
    """A Parquet file."""

    content_type = "application/vnd.apache.parquet"

    def __init__(self, after: str | None = None) -> None:
        self._compress = zstandard.ZstdCompressor(level=_LEVEL).compress
        self._waiting: list[list[_Page]] = []
        self._size = 0
        self._place = 0
        self._count = 0
        self._groups: list[Value] = []

    def portion(self, some: Sequence[Whole]) -> Portion:
        """A page of every column."""
        # Bodies are most of it, and are copied one column after the other.
        bodies = ([utf8(getattr(whole, name)) for whole in some] for name in BODIES)
        columns = chain(map(_encoded, TABLE.values(), columns_of(some)), bodies)
        pages = [
            self._page(name, kind, column)
            for (name, kind), column in zip(TABLE.items(), columns, strict=True)
        ]
        told = [(len(page.data), page.raw, page.rows, page.nulls, page.least, page.most) for page in pages]
        head = orjson.dumps(told)
        data = b"".join((_SIZE.pack(len(head)), head, *(page.data for page in pages)))
        return Portion(len(some), some[-1].row[0], data)

    def _page(self, name: str, kind: type, column: Sequence[Any]) -> _Page:
        rows, nulls = len(column), column.count(None)
        present = column if not nulls else [value for value in column if value is not None]
        raw = _levels(column, nulls) + (_plain(kind, present) if present else b"")
        packed = self._compress(raw)
        head = _page_head(len(raw), len(packed), rows)
        bounds = (min(present).decode(), max(present).decode()) if name in _BOUNDED else (None, None)
        return _Page(head + packed, len(head) + len(raw), rows, nulls, *bounds)

    def begin(self) -> bytes:
        """The first bytes of the file."""
        self._place = len(_MAGIC)
        return _MAGIC

    def add(self, portion: Portion) -> bytes:
        """The pages of portions, once there are enough for a row group."""
        self._count += portion.count
        self._size += len(portion.data)
        self._waiting.append(_pages(memoryview(bytes(portion.data))))
        return self._group() if self._size >= _ROW_GROUP else b""

    def end(self) -> bytes:
        """The last rows, and the foot of the file."""
        last = self._group()
        _, foot = struct(
            (1, i32(_VERSION)),
            (2, listed(_schema())),
            (3, i64(self._count)),
            (4, listed(self._groups) if self._groups else _NO_GROUPS),
            (6, binary(_CREATED_BY)),
            (7, listed([struct((1, struct()))] * len(TABLE))),
        )
        return b"".join((last, foot, _SIZE.pack(len(foot)), _MAGIC))

    def _group(self) -> bytes:
        """What waits, as a row group: the pages of each column behind one another."""
        if not self._waiting:
            return b""
        columns = list(zip(*self._waiting, strict=True))
        chunks: list[Value] = []
        for (name, kind), pages in zip(TABLE.items(), columns, strict=True):
            chunks.append(_chunk(name, kind, pages, self._place))
            self._place += sum(len(page.data) for page in pages)
        raw = sum(page.raw for pages in columns for page in pages)
        rows = sum(page.rows for page in columns[0])
        self._groups.append(struct((1, listed(chunks)), (2, i64(raw)), (3, i64(rows))))
        self._waiting, self._size = [], 0
        return b"".join(page.data for pages in columns for page in pages)


#: An empty list of structures.
_NO_GROUPS: Final = (9, b"\x0c")


def _pages(data: memoryview) -> list[_Page]:
    (size,) = _SIZE.unpack_from(data)
    place = _SIZE.size + size
    pages = []
    for length, *told in orjson.loads(data[_SIZE.size : place]):
        pages.append(_Page(data[place : place + length], *told))
        place += length
    return pages


def _encoded(kind: type, column: Sequence[Any]) -> Sequence[Any]:
    if kind is not str:
        return column
    return [None if text is None else text.encode("utf-8", "replace") for text in column]


def _levels(column: Sequence[Any], nulls: int) -> bytes:
    """Which of the values are there: a run of equal levels, or a bit for each."""
    count = len(column)
    if nulls in (0, count):
        levels = varint(count << 1) + (b"\0" if nulls else b"\1")
    else:
        bits = _bits([value is not None for value in column])
        levels = varint(len(bits) << 1 | 1) + bits
    return _SIZE.pack(len(levels)) + levels


def _bits(flags: Sequence[Any]) -> bytes:
    digits = "".join(["1" if flag else "0" for flag in reversed(flags)])
    return int(digits, 2).to_bytes((len(flags) + 7) // 8, "little")


def _plain(kind: type, values: Sequence[Any]) -> bytes:
    """Values in the encoding ``PLAIN``."""
    if kind is str:
        return b"".join(chain.from_iterable(zip(map(_SIZE.pack, map(len, values)), values, strict=True)))
    if kind is bool:
        return _bits(values)
    numbers = array("q" if kind is int else "d", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _page_head(raw: int, packed: int, rows: int) -> bytes:
    of_data = struct((1, i32(rows)), (2, i32(_PLAIN)), (3, i32(_RLE)), (4, i32(_RLE)))
    return struct((1, i32(0)), (2, i32(raw)), (3, i32(packed)), (5, of_data))[1]


def _chunk(name: str, kind: type, pages: Sequence[_Page], place: int) -> Value:
    told = struct(
        (1, i32(_TYPES[kind])),
        (2, listed([i32(_PLAIN), i32(_RLE)])),
        (3, listed([binary(name.encode())])),
        (4, i32(_ZSTD)),
        (5, i64(sum(page.rows for page in pages))),
        (6, i64(sum(page.raw for page in pages))),
        (7, i64(sum(len(page.data) for page in pages))),
        (9, i64(place)),
        (12, _statistics(pages)),
    )
    return struct((2, i64(place)), (3, told))


def _statistics(pages: Sequence[_Page]) -> Value:
    nulls = (3, i64(sum(page.nulls for page in pages)))
    least = [page.least for page in pages if page.least is not None]
    most = [page.most for page in pages if page.most is not None]
    if not least:
        return struct(nulls)
    return struct(nulls, (5, binary(max(most).encode())), (6, binary(min(least).encode())))


def _schema() -> list[Value]:
    root = struct((4, binary(b"schema")), (5, i32(len(TABLE))))
    return [root, *_elements()]


def _elements() -> Iterable[Value]:
    for name, kind in TABLE.items():
        known = ((1, i32(_TYPES[kind])), (3, i32(_OPTIONAL)), (4, binary(name.encode())))
        if kind is str:
            # The logical type STRING, by its new name as well.
            yield struct(*known, (6, i32(_UTF8)), (10, struct((1, struct()))))
        else:
            yield struct(*known)
