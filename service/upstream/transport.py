"""HTTP/1.1 to upstream: pooled connections, llhttp's parser, our own deadlines.

This is the seam behind which the HTTP client can be changed. A request is one write of a prepared head and a body, and
what comes back is parsed in the call that it arrives in (:mod:`service.upstream.connection`). What a client library
adds above that (cookies, redirects, tracing, per-request URL handling, a reader that is woken for every piece) is of no
use to a gateway with a handful of fixed origins, and was the largest part of the time of a forwarded request;
``bench/README.md`` has the measurement.

Errors say what may have happened upstream, because a create must never be repeated blindly: after
:class:`ConnectFailed` nothing was sent; after :class:`ConnectionBroken` and :class:`ReadTimeout` the request may have
run.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from time import monotonic
from typing import Final

from service.errors import ConfigurationError
from service.upstream.connection import ConnectFailed, Connection, Origin, TransportError
from service.upstream.deadlines import Deadlines
from service.upstream.response import LateAnswer, Response

_CONNECT_TIMEOUT: Final = 10.0
#: Seconds after which an idle connection is not used again: less than Google's front end keeps one.
_KEEPALIVE: Final = 60.0
#: A body that is larger is written by itself, not copied behind its head.
_LARGE_BODY: Final = 256 * 1024
_FORBIDDEN_IN_HEAD: Final = frozenset("\r\n\0")


class Transport:
    """Connections to all origins of one process; ask for it once and close it at the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: defaultdict[Origin, deque[tuple[float, Connection]]] = defaultdict(deque)
        self.deadlines = Deadlines(self._loop)
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def request(
        self,
        origin: Origin,
        head: bytes,
        body: bytes,
        *,
        total_timeout: float | None = None,
        read_timeout: float | None = None,
        connect_timeout: float | None = None,
        first_byte_timeout: float | None = None,
        patient: bool = False,
    ) -> Response:
        """Send one request and wait for the head of its answer.

        ``head`` is the request line and headers, complete with the blank line. ``total_timeout`` bounds the time until
        the answer has been read, ``read_timeout`` each silence of upstream, ``first_byte_timeout`` the one before the
        answer, and ``connect_timeout`` the making of a connection, all in seconds. Raises :class:`TransportError`;
        where the caller is ``patient``, that is a :class:`LateAnswer` when one of the first three has passed.
        """
        connection = self._pooled(origin) or await self._connect(origin, connect_timeout or _CONNECT_TIMEOUT)
        if total_timeout is not None:
            self.deadlines.add(connection, total_timeout)
        silence = first_byte_timeout or (read_timeout if total_timeout is None else None)
        if silence is not None:
            self.deadlines.add_silence(connection, silence)
        exchange = connection.begin()
        exchange.patient = patient
        response = Response(self, origin, connection, exchange, None if total_timeout else read_timeout)
        try:
            transport = connection.transport
            transport.write(head + body if len(body) < _LARGE_BODY else head)
            if len(body) >= _LARGE_BODY:
                transport.write(body)
            await response.head()
        except LateAnswer:
            raise
        except BaseException:
            self.give_up(connection)
            raise
        if total_timeout is None:
            exchange.patient = False
            self.deadlines.remove(connection)
        elif first_byte_timeout is not None:
            self.deadlines.forget_silence(connection)
        return response

    def release(self, origin: Origin, connection: Connection) -> None:
        """Take back a connection whose answer has been read."""
        self.deadlines.remove(connection)
        transport = connection.transport
        if (
            self._closed
            or not connection.reusable
            or transport.is_closing()
            # An answer that came before the request was sent whole: the rest would stand before the next request.
            or transport.get_write_buffer_size()
        ):
            connection.abort()
            return
        connection.resume()
        idle = self._idle[origin]
        moment = monotonic()
        while idle:
            released_at, oldest = idle[0]
            if moment - released_at <= _KEEPALIVE and not oldest.transport.is_closing():
                break
            idle.popleft()
            oldest.abort()
        idle.append((moment, connection))

    def give_up(self, connection: Connection, error: TransportError | None = None) -> None:
        """Drop a connection in the middle of an answer; whoever waits for that gets the error."""
        self.deadlines.remove(connection)
        connection.abort(error)

    async def close(self) -> None:
        """Close every idle connection; those in use close when they are released."""
        self._closed = True
        self.deadlines.close()
        for connections in self._idle.values():
            for _, connection in connections:
                connection.transport.close()
        self._idle.clear()
        await asyncio.sleep(0)

    def _pooled(self, origin: Origin) -> Connection | None:
        connections = self._idle.get(origin)
        while connections:
            released_at, connection = connections.pop()
            if monotonic() - released_at > _KEEPALIVE:
                connection.transport.close()
                while connections:
                    connections.pop()[1].transport.close()
                return None
            if connection.reusable and not connection.transport.is_closing():
                return connection
            connection.transport.close()
        return None

    async def _connect(self, origin: Origin, seconds: float) -> Connection:
        try:
            async with asyncio.timeout(seconds):
                _, connection = await self._loop.create_connection(
                    Connection,
                    origin.host,
                    origin.port,
                    ssl=self._tls_context() if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except TimeoutError as error:
            raise ConnectFailed(f"no connection to {origin.host} within {seconds:g} s") from error
        except (OSError, ssl.SSLError) as error:
            raise ConnectFailed(f"no connection to {origin.host}: {error}") from error
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


def request_head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """The head of a request without its final blank line; refuses values that would end a line early."""
    for text in (target, *headers.values()):
        if not _FORBIDDEN_IN_HEAD.isdisjoint(text):
            raise ConfigurationError("A key, URL or header value for upstream holds a line break; remove it.")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n"
