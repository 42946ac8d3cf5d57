"""The forms of an export: JSON lines, CSV, Parquet; each takes interactions some at a time and gives bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from itertools import chain
from typing import Any, Final, Protocol

import orjson

from service.audit.lines import BODIES, COLUMNS, Whole, id_text, line_of, uuid_text
from service.audit.summaries import TOKENS, dollars, seconds, timestamp
from service.errors import InvalidRequest, Unimplemented

#: The columns of tables: each with whether it is text, a whole number, a number, or a flag.
TABLE: Final[Mapping[str, type]] = {
    "id": str,
    "created": str,
    "completed": str,
    "project": str,
    "key_id": str,
    "status": str,
    "model": str,
    "model_requested": str,
    "agent": str,
    "deployment": str,
    "service_tier": str,
    "labels": str,
    "previous_interaction_id": str,
    "root": str,
    "depth": int,
    "replay_of": str,
    "stream": bool,
    "background": bool,
    "store": bool,
    "upstream_interaction_id": str,
    "http_status": int,
    "error_code": str,
    "error_message": str,
    "duration": float,
    "first_event": float,
    "input_tokens": int,
    "output_tokens": int,
    "thought_tokens": int,
    "cached_tokens": int,
    "tool_use_tokens": int,
    "total_tokens": int,
    "cost": float,
    "deleted": str,
    "request": str,
    "response": str,
}
#: Texts that are another one in nearly every row.
_UNIQUE: Final = (
    "id",
    "created",
    "completed",
    "upstream_interaction_id",
    "previous_interaction_id",
    "root",
    *BODIES,
)
#: Columns of a row that stand in a table as they are: of what was asked, and of what came.
_ASKED: Final = ("model_requested", "agent", "deployment_id", "service_tier", "labels")
_CAME: Final = ("upstream_id", "http_status", "error_code", "error_message")
_FLAGS: Final = ("stream", "background", "store")
#: Texts that are written here, and begin with a letter or a digit.
_OURS: Final = frozenset(
    {"id", "created", "completed", "key_id", "previous_interaction_id", "root", "replay_of", "deleted"}
)
#: Bytes of a row group in memory: larger ones are read faster, and a file has fewer.
_ROW_GROUP: Final = 4 * 1024 * 1024
_LINE_END: Final = b"\r\n"
_NO_PYARROW: Final = (
    "Parquet needs the package 'pyarrow', which is not installed where the service runs: install "
    "'interactions-service[parquet]', or export as jsonl or csv."
)
#: What spreadsheets take for the beginning of a formula.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")


class Encoder(Protocol):
    """One export in some form."""

    content_type: str

    def begin(self) -> bytes:
        """What comes before the first interaction."""

    def add(self, some: Sequence[Whole]) -> bytes:
        """Some interactions; may be called in a thread, one call at a time."""

    def end(self) -> bytes:
        """What comes behind the last one."""


class JsonLines:
    """One line for each interaction, and a last one, the manifest: how many they are, and a digest of their lines."""

    content_type = "application/x-ndjson"

    def __init__(self) -> None:
        self._hash = sha256()
        self._count = 0
        self._last: str | None = None

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def add(self, some: Sequence[Whole]) -> bytes:
        """Their lines."""
        data = b"".join(chain.from_iterable(map(line_of, some)))
        self._hash.update(data)
        self._count += len(some)
        self._last = id_text(some[-1].row[0]) if some else self._last
        return data

    def end(self) -> bytes:
        """The manifest."""
        manifest = {"count": self._count, "sha256": self._hash.hexdigest(), "last": self._last}
        return orjson.dumps({"manifest": manifest}, option=orjson.OPT_APPEND_NEWLINE)


class Csv:
    """A table in RFC 4180's form, with a head.

    A text that a spreadsheet would take for a formula has an apostrophe before it, which spreadsheets do not show.
    """

    content_type = "text/csv; charset=utf-8"

    def begin(self) -> bytes:
        """The names of the columns."""
        return ",".join(TABLE).encode() + _LINE_END

    def add(self, some: Sequence[Whole]) -> bytes:
        """Their rows."""
        lines: list[str] = []
        columns = [_cells(name, column) for name, column in zip(TABLE, _columns(some), strict=False)]
        csv.writer(_Lines(lines), lineterminator="").writerows(zip(*columns, strict=True))
        pieces: list[bytes] = []
        for whole, line in zip(some, lines, strict=True):
            pieces += (line.encode("utf-8", "replace"), b",", *_quoted(whole.request), b",")
            pieces += (*_quoted(whole.response), _LINE_END)
        return b"".join(pieces)

    def end(self) -> bytes:
        """Nothing."""
        return b""


class _Lines:
    """Takes what is written apart from one another."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


class Parquet:
    """A Parquet file; needs the package pyarrow, which is loaded only here."""

    content_type = "application/vnd.apache.parquet"

    def __init__(self) -> None:
        import pyarrow
        from pyarrow import parquet

        # One thread is fast enough, and each has memory of its own.
        pyarrow.set_cpu_count(1)
        self._pool = pyarrow.system_memory_pool()
        types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
        self._table = pyarrow.Table
        self._array = pyarrow.array
        self._bytes = pyarrow.binary()
        self._text = pyarrow.string()
        self._joined = pyarrow.concat_tables
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in TABLE.items()])
        self._sink = _Sink()
        short = [name for name in TABLE if name not in BODIES]
        self._writer = parquet.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            use_dictionary=[name for name, kind in TABLE.items() if kind is str and name not in _UNIQUE],
            write_statistics=short,
            memory_pool=self._pool,
        )
        self._waiting: list[Any] = []
        self._size = 0

    def begin(self) -> bytes:
        """The first bytes of the file."""
        return self._sink.taken()

    def add(self, some: Sequence[Whole]) -> bytes:
        """Their rows, once there are enough for a row group."""
        if some:
            table = self._rows(some)
            self._waiting.append(table)
            self._size += table.nbytes
        if self._size >= _ROW_GROUP:
            self._write()
        return self._sink.taken()

    def end(self) -> bytes:
        """The last rows, and the foot of the file."""
        self._write()
        self._writer.close()
        return self._sink.taken()

    def _rows(self, some: Sequence[Whole]) -> Any:
        columns: list[Any] = [
            self._array(values, field.type, memory_pool=self._pool)
            for values, field in zip(_columns(some), self._schema, strict=False)
        ]
        for name in BODIES:
            bodies = [_utf8(getattr(whole, name)) for whole in some]
            columns.append(self._array(bodies, self._bytes, memory_pool=self._pool).cast(self._text))
        return self._table.from_arrays(columns, schema=self._schema)

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(self._joined(self._waiting))
            self._waiting, self._size = [], 0


class _Sink(io.RawIOBase):
    """What a writer of files writes, to be taken away piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._place += len(piece)
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


FORMATS: Final[Mapping[str, type[JsonLines] | type[Csv] | type[Parquet]]] = {
    "jsonl": JsonLines,
    "csv": Csv,
    "parquet": Parquet,
}


def form_of(name: str) -> type[JsonLines] | type[Csv] | type[Parquet]:
    """The encoder of a form, to be made.

    Raises :class:`InvalidRequest` for a form that is unknown, :class:`Unimplemented` for Parquet without pyarrow.
    """
    kind = FORMATS.get(name)
    if kind is None:
        raise InvalidRequest(
            f"The value is invalid for 'format'. Expected {', '.join(FORMATS)}, got {name[:50]!r}."
        )
    if kind is Parquet and find_spec("pyarrow") is None:
        raise Unimplemented(_NO_PYARROW)
    return kind


def _columns(some: Sequence[Whole]) -> list[Sequence[Any]]:
    """The columns of :data:`TABLE`, in their order, but for the bodies."""
    if not some:
        return [()] * (len(TABLE) - len(BODIES))
    columns = zip(*[whole.row for whole in some], strict=True)
    of: dict[str, tuple[Any, ...]] = dict(zip(COLUMNS, columns, strict=False))
    created, completed, first = of["created_at"], of["completed_at"], of["first_byte_at"]
    return [
        list(map(id_text, of["id"])),
        list(map(timestamp, created)),
        list(map(timestamp, completed)),
        [whole.project or uuid_text(whole.project_id) for whole in some],
        [None if key is None else uuid_text(key) for key in of["key_id"]],
        of["status"],
        [model or requested for model, requested in zip(of["model"], of["model_requested"], strict=True)],
        *(of[name] for name in _ASKED),
        _references(of["previous_id"]),
        [id_text(root or key) for root, key in zip(of["root_id"], of["id"], strict=True)],
        of["depth"],
        _references(of["replay_of"]),
        *(list(map(bool, of[name])) for name in _FLAGS),
        *(of[name] for name in _CAME),
        list(map(seconds, created, completed)),
        list(map(seconds, created, first)),
        *(of[name] for name in TOKENS),
        list(map(dollars, of["cost_nanos"])),
        list(map(timestamp, of["deleted_at"])),
    ]


def _references(keys: Sequence[bytes | None]) -> list[str | None]:
    return [None if key is None else id_text(key) for key in keys]


def _utf8(body: bytes | None) -> bytes | None:
    """A body as text; what is none is replaced."""
    if body is None or body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace").encode()
    return body


def _cells(name: str, column: Sequence[Any]) -> Sequence[Any]:
    """A column as CSV has it."""
    if TABLE[name] is bool:
        return ["true" if value else "false" for value in column]
    if TABLE[name] is not str or name in _OURS:
        return column
    return [f"'{value}" if value is not None and value.startswith(_FORMULAS) else value for value in column]


def _quoted(body: bytes | None) -> tuple[bytes, ...]:
    text = _utf8(body)
    return () if text is None else (b'"', text.replace(b'"', b'""'), b'"')
