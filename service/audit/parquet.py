"""Exports as Parquet files; needs the package pyarrow, which is loaded only here, when one is made."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from service.audit.lines import BODIES, Whole
from service.audit.portions import Portion
from service.audit.tables import TABLE, columns_of, utf8

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
#: Bytes of a row group in memory: larger ones are read faster, and a file has fewer.
_ROW_GROUP: Final = 4 * 1024 * 1024


class Parquet:
    """A Parquet file."""

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
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in TABLE.items()])
        self._batch = pyarrow.RecordBatch.from_arrays
        self._read = pyarrow.ipc.read_record_batch
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

    def portion(self, some: Sequence[Whole]) -> Portion:
        """Their columns, as Arrow has them in memory."""
        columns: list[Any] = [
            self._array(values, field.type, memory_pool=self._pool)
            for values, field in zip(columns_of(some), self._schema, strict=False)
        ]
        for name in BODIES:
            bodies = [utf8(getattr(whole, name)) for whole in some]
            columns.append(self._array(bodies, self._bytes, memory_pool=self._pool).cast(self._text))
        batch = self._batch(columns, schema=self._schema)
        return Portion(len(some), some[-1].row[0], memoryview(batch.serialize(memory_pool=self._pool)))

    def begin(self) -> bytes:
        """The first bytes of the file."""
        return self._sink.taken()

    def add(self, portion: Portion) -> bytes:
        """The rows of portions, once there are enough for a row group."""
        self._waiting.append(self._read(bytes(portion.data), self._schema))
        self._size += len(portion.data)
        if self._size >= _ROW_GROUP:
            self._write()
        return self._sink.taken()

    def end(self) -> bytes:
        """The last rows, and the foot of the file."""
        self._write()
        self._writer.close()
        return self._sink.taken()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(self._table.from_batches(self._waiting, self._schema))
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
