"""Server-sent events as bytes (contract 4): split an upstream's stream into blocks, frame our own.

Lines end at LF or CRLF and nowhere else: a model's text may contain U+2028, U+0085 or a lone CR, and none of
them ends a line. A block travels as the bytes it came in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from service.errors import BadGateway
from service.wire import codec

#: What ends a block.
END: Final = b"\n\n"
DONE: Final = b"event: done\ndata: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"

_LF: Final = 0x0A
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BOUNDARY = re.compile(rb"\n\r?\n")


class Splitter:
    """Cuts a byte stream into complete blocks, however it is chunked."""

    __slots__ = ("_buffer", "_max_block", "_max_plain", "_scanned", "is_between")

    def __init__(self, max_block: int = 64 * 1024 * 1024) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._max_block = max_block
        #: The size of the largest block that need not be looked at; none, until it is known how the stream begins.
        self._max_plain = 0
        #: Whether the next byte begins a block, so that whole blocks need not be fed.
        self.is_between = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The blocks that this chunk completes, without the blank line that ends them.

        Raises BadGateway when a block outgrows the bound; the splitter is of no use afterwards.
        """
        end = len(chunk) - 2
        if (
            chunk.find(b"\n\n") == end
            and 0 < end < self._max_plain
            and not self._buffer
            and chunk[0] != _LF
            and b"\r" not in chunk
        ):
            return [chunk[:end]]
        buffer = self._buffer
        buffer += chunk
        if not self._max_plain:
            self._begin()
        blocks: list[bytes] = []
        begin = 0
        for boundary in _BOUNDARY.finditer(buffer, self._scanned):
            block = _trim(bytes(buffer[begin : boundary.start()]))
            begin = boundary.end()
            self._check(len(block))
            if block:
                blocks.append(block)
        del buffer[:begin]
        # A boundary is at most three bytes long, so the next one may begin in the last two of these.
        self._scanned = max(0, len(buffer) - 2)
        self._check(len(buffer))
        self.is_between = not buffer and self._max_plain > 0
        return blocks

    @property
    def rest(self) -> bytes:
        """What has come of a block that is not complete."""
        return bytes(self._buffer)

    def _begin(self) -> None:
        """Drop the byte order mark that a stream may begin with (HTML standard, 9.2.6)."""
        begin = bytes(self._buffer[: len(_BYTE_ORDER_MARK)])
        if begin == _BYTE_ORDER_MARK:
            del self._buffer[: len(begin)]
        if begin == _BYTE_ORDER_MARK or not _BYTE_ORDER_MARK.startswith(begin):
            self._max_plain = self._max_block

    def _check(self, size: int) -> None:
        if size > self._max_block:
            raise BadGateway(f"Upstream sent a server-sent event larger than {self._max_block} bytes.")


def _trim(block: bytes) -> bytes:
    """Drop the rest of a CRLF behind the block and blank lines in front of it."""
    if block.endswith(b"\r"):
        block = block[:-1]
    return block.lstrip(b"\r\n") if block[:1] in (b"\r", b"\n") else block


def data_of(block: bytes) -> bytes | None:
    """The block's data lines, joined by LF; None for a comment or a block without data."""
    lines = _field(block, b"data")
    return b"\n".join(lines) if lines else None


def event_name(block: bytes) -> bytes | None:
    """The value of the block's last ``event`` line; None if it has none."""
    lines = _field(block, b"event")
    return lines[-1] if lines else None


def _field(block: bytes, name: bytes) -> list[bytes]:
    values: list[bytes] = []
    for line in block.split(b"\n"):
        if line.startswith(name):
            text = line.removesuffix(b"\r")
            found, colon, value = text.partition(b":")
            if found == name:
                values.append(value.removeprefix(b" ") if colon else b"")
    return values


def frame(event: Mapping[str, Any]) -> bytes:
    """An event as one block: the ``event`` line repeats the JSON's ``event_type`` (contract 4).

    An event without a usable type has only a data line.
    """
    data = codec.dumps(event)
    name = event.get("event_type")
    if not isinstance(name, str) or not name or "\n" in name or "\r" in name:
        return b"data: %b\n\n" % data
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
