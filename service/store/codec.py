"""How bodies are kept: compressed with zstd, small ones with a dictionary trained on interactions.

The codec number travels with every row, so dictionaries can be added and old rows stay readable for ever; a number is
never reused. Codec 0 keeps the bytes as they are (bodies that would not get smaller).
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Sequence
from importlib.resources import files

import zstandard

from service.errors import StoreError

RAW = 0
ZSTD = 1
#: The newest dictionary; the codec number of a dictionary is also its file's name.
DICTIONARY = 2

_LEVEL = 2
#: Beyond this size a dictionary no longer helps and only costs.
_DICTIONARY_LIMIT = 64 * 1024
_DAMAGED = "A stored body is damaged and cannot be decompressed."


class _OfThread(threading.local):
    """The compressors and decompressors of one thread: two threads must not use one at the same time."""

    def __init__(self, dictionary: zstandard.ZstdCompressionDict) -> None:
        self.small = zstandard.ZstdCompressor(level=_LEVEL, dict_data=dictionary)
        self.large = zstandard.ZstdCompressor(level=_LEVEL)
        self.by_codec = {
            ZSTD: zstandard.ZstdDecompressor(),
            DICTIONARY: zstandard.ZstdDecompressor(dict_data=dictionary),
        }


class Codec:
    """Packs and unpacks bodies, in any number of threads."""

    def __init__(self) -> None:
        dictionary = zstandard.ZstdCompressionDict(
            files("service.store").joinpath(f"dictionaries/{DICTIONARY}.zdict").read_bytes()
        )
        dictionary.precompute_compress(level=_LEVEL)
        self._own = _OfThread(dictionary)

    def pack(self, bodies: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
        """Compress bodies in one call that holds no interpreter lock; gives (codec, size, packed) for each."""
        small = [body for body in bodies if 0 < len(body) <= _DICTIONARY_LIMIT]
        compressed = iter(self._compress_small(small))
        if len(small) == len(bodies):
            return [
                (DICTIONARY, len(body), result) if len(result) < len(body) else (RAW, len(body), body)
                for body, result in zip(bodies, compressed, strict=True)
            ]
        packed = []
        for body in bodies:
            codec, result = RAW, body
            if 0 < len(body) <= _DICTIONARY_LIMIT:
                codec, result = DICTIONARY, next(compressed)
            elif body:
                codec, result = ZSTD, self._own.large.compress(body)
            packed.append((codec, len(body), result) if len(result) < len(body) else (RAW, len(body), body))
        return packed

    def _compress_small(self, bodies: list[bytes]) -> list[bytes]:
        compressor = self._own.small
        if len(bodies) < 2 or not hasattr(compressor, "multi_compress_to_buffer"):
            return [compressor.compress(body) for body in bodies]
        packed = compressor.multi_compress_to_buffer(list[bytes | bytearray | memoryview](bodies))
        return [packed[place].tobytes() for place in range(len(packed))]

    def unpack(self, codec: int, size: int, body: bytes) -> bytes:
        """The bytes that were packed; raises :class:`StoreError` when the row is damaged or of a newer version."""
        try:
            _check(codec, size, body)
            return body if codec == RAW else self._own.by_codec[codec].decompress(body)
        except zstandard.ZstdError as error:
            raise StoreError(_DAMAGED) from error

    def unpack_all(self, rows: Sequence[tuple[int, int, bytes]]) -> list[bytes]:
        """:meth:`unpack` for many rows of (codec, size, body).

        The small bodies are unpacked in one call. Every call gives up the interpreter lock, and to take it back from a
        busy event loop takes milliseconds.
        """
        small = [row for row in rows if row[0] == DICTIONARY]
        unpacked = iter(self._unpack_small(small))
        return [next(unpacked) if row[0] == DICTIONARY else self.unpack(*row) for row in rows]

    def _unpack_small(self, rows: list[tuple[int, int, bytes]]) -> list[bytes]:
        decompressor = self._own.by_codec[DICTIONARY]
        if len(rows) < 2 or not hasattr(decompressor, "multi_decompress_to_buffer"):
            return [self.unpack(*row) for row in rows]
        sizes = array("Q", [size for _, size, _ in rows]).tobytes()
        try:
            for row in rows:
                _check(*row)
            unpacked = decompressor.multi_decompress_to_buffer(
                [body for _, _, body in rows], decompressed_sizes=sizes
            )
        except zstandard.ZstdError as error:
            raise StoreError(_DAMAGED) from error
        return [unpacked[place].tobytes() for place in range(len(unpacked))]


def _check(codec: int, size: int, body: bytes) -> None:
    """Before decompressing: a damaged header may claim more than there is memory for."""
    if codec not in (RAW, ZSTD, DICTIONARY):
        raise StoreError(
            f"A stored body has codec {codec}, which this version cannot read; upgrade the service."
        )
    if size != (len(body) if codec == RAW else zstandard.frame_content_size(body)):
        raise StoreError(_DAMAGED)
