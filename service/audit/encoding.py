"""The forms of an export: JSON lines, CSV, Parquet."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any, Final

import orjson

from service.audit.lines import Whole, id_text, line_of
from service.audit.parquet import Parquet
from service.audit.portions import Portion
from service.audit.tables import TABLE, columns_of, utf8
from service.errors import InvalidRequest

#: Texts that are written here, and begin with a letter or a digit.
_OURS: Final = frozenset(
    {"id", "created", "completed", "key_id", "previous_interaction_id", "root", "replay_of", "deleted"}
)
_TERMINATOR: Final = "\r\n"
_LINE_END: Final = _TERMINATOR.encode()
#: What spreadsheets take for the beginning of a formula.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")


class JsonLines:
    """One line for each interaction, and a last one, the manifest: how many they are, and a digest of their lines.

    That of an export which goes on behind an interaction has its id as ``after``: what it tells of may follow others.
    """

    content_type = "application/x-ndjson"

    def __init__(self, after: str | None = None) -> None:
        self._after = after
        self._hash = sha256()
        self._count = 0
        self._last: bytes | None = None

    def portion(self, some: Sequence[Whole]) -> Portion:
        """Their lines."""
        return _portion(some, b"".join(chain.from_iterable(map(line_of, some))))

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def add(self, portion: Portion) -> bytes | memoryview:
        """The lines of a portion."""
        self._hash.update(portion.data)
        self._count += portion.count
        self._last = portion.last
        return portion.data

    def end(self) -> bytes:
        """The manifest."""
        last = None if self._last is None else id_text(self._last)
        manifest = {"count": self._count, "sha256": self._hash.hexdigest(), "last": last}
        if self._after is not None:
            manifest["after"] = self._after
        return orjson.dumps({"manifest": manifest}, option=orjson.OPT_APPEND_NEWLINE)


class Csv:
    """A table in RFC 4180's form, with a head, which one that goes on behind an interaction has already.

    A text that a spreadsheet would take for a formula has an apostrophe before it, which spreadsheets do not show.
    """

    content_type = "text/csv; charset=utf-8"

    def __init__(self, after: str | None = None) -> None:
        self._goes_on = after is not None

    def portion(self, some: Sequence[Whole]) -> Portion:
        """Their rows."""
        lines: list[str] = []
        columns = [_cells(name, column) for name, column in zip(TABLE, columns_of(some), strict=False)]
        # Up to Python 3.12, a line break is quoted only if it is in the line terminator.
        csv.writer(_Lines(lines), lineterminator=_TERMINATOR).writerows(zip(*columns, strict=True))
        pieces: list[bytes] = []
        for whole, line in zip(some, lines, strict=True):
            cells = line.removesuffix(_TERMINATOR).encode("utf-8", "replace")
            pieces += (cells, b",", *_quoted(whole.request), b",")
            pieces += (*_quoted(whole.response), _LINE_END)
        return _portion(some, b"".join(pieces))

    def begin(self) -> bytes:
        """The names of the columns, where nothing comes before."""
        return b"" if self._goes_on else ",".join(TABLE).encode() + _LINE_END

    def add(self, portion: Portion) -> bytes | memoryview:
        """The rows of a portion."""
        return portion.data

    def end(self) -> bytes:
        """Nothing."""
        return b""


class _Lines:
    """Takes what is written apart from one another."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


FORMATS: Final[Mapping[str, type[JsonLines] | type[Csv] | type[Parquet]]] = {
    "jsonl": JsonLines,
    "csv": Csv,
    "parquet": Parquet,
}


def form_of(name: str) -> type[JsonLines] | type[Csv] | type[Parquet]:
    """The encoder of a form, to be made; raises :class:`InvalidRequest` for a form that is unknown."""
    kind = FORMATS.get(name)
    if kind is None:
        raise InvalidRequest(
            f"The value is invalid for 'format'. Expected {', '.join(FORMATS)}, got {name[:50]!r}."
        )
    return kind


def _portion(some: Sequence[Whole], data: bytes) -> Portion:
    return Portion(len(some), some[-1].row[0], data)


def _cells(name: str, column: Sequence[Any]) -> Sequence[Any]:
    """A column as CSV has it."""
    if TABLE[name] is bool:
        return ["true" if value else "false" for value in column]
    if TABLE[name] is not str or name in _OURS:
        return column
    return [f"'{value}" if value is not None and value.startswith(_FORMULAS) else value for value in column]


def _quoted(body: bytes | None) -> tuple[bytes, ...]:
    text = utf8(body)
    return () if text is None else (b'"', text.replace(b'"', b'""'), b'"')
