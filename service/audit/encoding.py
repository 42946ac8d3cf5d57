"""The forms of an export: JSON lines, CSV, Parquet; each takes interactions some at a time and gives bytes."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

import orjson

from service.audit.lines import Whole, line_of
from service.audit.summaries import dollars, seconds, timestamp
from service.errors import InvalidRequest, Unimplemented
from service.wire import ids

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
        data = b"".join([line_of(whole) for whole in some])
        self._hash.update(data)
        self._count += len(some)
        self._last = ids.to_text(some[-1].row["id"]) if some else self._last
        return data

    def end(self) -> bytes:
        """The manifest."""
        manifest = {"count": self._count, "sha256": self._hash.hexdigest(), "last": self._last}
        return orjson.dumps({"manifest": manifest}, option=orjson.OPT_APPEND_NEWLINE)


class Csv:
    """A table in RFC 4180's form, with a head."""

    content_type = "text/csv; charset=utf-8"

    def begin(self) -> bytes:
        """The names of the columns."""
        return _csv([list(TABLE)])

    def add(self, some: Sequence[Whole]) -> bytes:
        """Their rows."""
        return _csv([[_cell(value) for value in _row(whole)] for whole in some])

    def end(self) -> bytes:
        """Nothing."""
        return b""


class Parquet:
    """A Parquet file; needs the package pyarrow, which is loaded only here."""

    content_type = "application/vnd.apache.parquet"

    def __init__(self) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise Unimplemented(
                "Parquet needs the package 'pyarrow', which is not installed where the service runs: install "
                "'interactions-service[parquet]', or export as jsonl or csv."
            ) from error
        types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
        self._table = pyarrow.Table
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in TABLE.items()])
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    def begin(self) -> bytes:
        """The first bytes of the file."""
        return self._sink.taken()

    def add(self, some: Sequence[Whole]) -> bytes:
        """A row group."""
        columns = list(zip(*[_row(whole) for whole in some], strict=True)) if some else []
        if columns:
            values = dict(zip(TABLE, map(list, columns), strict=True))
            self._writer.write_table(self._table.from_pydict(values, schema=self._schema))
        return self._sink.taken()

    def end(self) -> bytes:
        """The foot of the file."""
        self._writer.close()
        return self._sink.taken()


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


def encoder_for(name: str) -> Encoder:
    """An encoder; raises :class:`InvalidRequest` for a form that is unknown, :class:`Unimplemented` for Parquet."""
    kind = FORMATS.get(name)
    if kind is None:
        raise InvalidRequest(
            f"The value is invalid for 'format'. Expected {', '.join(FORMATS)}, got {name[:50]!r}."
        )
    return kind()


def _row(whole: Whole) -> list[Any]:
    row = whole.row
    created = row["created_at"]
    told = {
        **{name: row.get(name) for name in TABLE},
        "id": ids.to_text(row["id"]),
        "created": timestamp(created),
        "completed": timestamp(row["completed_at"]),
        "project": whole.project or str(uuid.UUID(bytes=whole.project_id)),
        "key_id": None if row["key_id"] is None else str(uuid.UUID(bytes=row["key_id"])),
        "model": row["model"] or row["model_requested"],
        "deployment": row["deployment_id"],
        "previous_interaction_id": _reference(row["previous_id"]),
        "root": ids.to_text(row["root_id"] or row["id"]),
        "replay_of": _reference(row["replay_of"]),
        "upstream_interaction_id": row["upstream_id"],
        "duration": seconds(created, row["completed_at"]),
        "first_event": seconds(created, row["first_byte_at"]),
        "cost": dollars(row["cost_nanos"]),
        "deleted": timestamp(row["deleted_at"]),
        "request": _text(whole.request),
        "response": _text(whole.response),
    }
    return [bool(told[name]) if kind is bool else told[name] for name, kind in TABLE.items()]


def _reference(key: bytes | None) -> str | None:
    return None if key is None else ids.to_text(key)


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode("utf-8", "replace")


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode("utf-8", "surrogatepass")
