"""An answer whose body is there: head and body are written at once, without the turns that a stream needs.

aiohttp prepares every answer as if more of it could follow; for a create that costs as much as storing one.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11

#: What no header may hold (RFC 9112 5); the line ends that this module writes are taken out before it looks.
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: A larger body waits for its client piece by piece, as aiohttp does it.
_LARGEST: Final = 64 * 1024
_NO_BODY: Final = frozenset({204, 304})


class WholeAnswer(web.Response):
    """A response of this service with a body of bytes."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write all of it, where it is of the plain kind; otherwise begin as aiohttp does."""
        body = self._body
        if (
            self._eof_sent
            or self._payload_writer is not None
            or request.version != HttpVersion11
            or request.method == "HEAD"
            or self._status in _NO_BODY
            or type(body) is not bytes
            or len(body) > _LARGEST
            or self._cookies
            or self._compression
            or self._chunked
        ):
            return await super().prepare(request)
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        transport, writer = request.transport, request._payload_writer
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        told = _head(self, len(body)) + body
        transport.write(told)
        writer.output_size += len(told)
        self._eof_sent = True
        self._body_length = writer.output_size
        await writer.drain()
        return writer


def _head(response: web.Response, length: int) -> bytes:
    lines = list(map(": ".join, response._headers.items()))
    text = "".join(lines)
    # What is printable is not forbidden, and to see that takes a fraction of the search.
    if not text.isprintable() and _FORBIDDEN.search(text) is not None:
        raise ValueError("a header of an answer holds a control character")
    lines.append(f"Content-Length: {length}")
    lines.append(f"Date: {rfc822_formatted_time()}")
    lines.append(f"Server: {SERVER_SOFTWARE}")
    if not response._keep_alive:
        lines.append("Connection: close")
    told = "\r\n".join(lines)
    return f"HTTP/1.1 {response._status} {response._reason}\r\n{told}\r\n\r\n".encode()
