"""Answers without a length to clients that know no chunks (HTTP/1.0): where they end is where the connection does.

So a connection that is closed too early, be it because this process stops, has to be reset: nothing else tells such a
client a loss from the end (RFC 9112 6.3 and 8).
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from aiohttp import HttpVersion11, web

#: What becomes of bytes that have not left when a connection is closed (SO_LINGER): they go out, or it is reset.
_IN_PEACE: Final = struct.pack("ii", 0, 0)
_RESET: Final = struct.pack("ii", 1, 0)


def is_unchunked(request: web.Request) -> bool:
    """Whether the client knows no chunks."""
    return request.version < HttpVersion11


async def begin(request: web.Request, response: web.StreamResponse) -> None:
    """Begin an answer without a length; behind it the connection is closed if need be, whatever the client wishes."""
    if is_unchunked(request):
        response.force_close()
    await response.prepare(request)
    if is_unchunked(request):
        _at_close(request, _RESET)


def end(request: web.Request) -> None:
    """All of the answer is written."""
    if is_unchunked(request):
        _at_close(request, _IN_PEACE)


def _at_close(request: web.Request, how: bytes) -> None:
    transport = request.transport
    if transport is not None and not transport.is_closing():
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
