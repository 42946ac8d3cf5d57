"""HTTP/1.1 to upstream: pooled connections, aiohttp's response parser, our own deadlines.

This is the seam behind which the HTTP client can be changed. A request is one write of a prepared head and a body, and
a response is read by aiohttp's own protocol (its C parser and flow control). What aiohttp's session adds
above that (cookies, redirects, tracing, per-request URL handling) is of no use to a gateway with a handful of fixed
origins and was two thirds of the time of a forwarded request; ``bench/README.md`` has the measurement.

Errors say what may have happened upstream, because a create must never be repeated blindly: after
:class:`ConnectFailed` nothing was sent; after :class:`ConnectionBroken` and :class:`ReadTimeout` the request may have
run.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Final, cast

from aiohttp import ClientError, ServerDisconnectedError, ServerTimeoutError, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from multidict import CIMultiDictProxy

from service.errors import ConfigurationError

_CONNECT_TIMEOUT: Final = 10.0
#: Seconds after which an idle connection is not used again: less than Google's front end keeps one.
_KEEPALIVE: Final = 60.0
#: Seconds between two looks at the time limits.
_DEADLINE_STEP: Final = 0.1
_READ_BUFFER: Final = 256 * 1024
#: A unary answer that is larger is given up.
_LARGEST_ANSWER: Final = 256 * 1024 * 1024
_BROKEN: Final = (ClientError, HttpProcessingError, OSError)
_FORBIDDEN_IN_HEAD: Final = frozenset("\r\n\0")


class TransportError(Exception):
    """Upstream could not be spoken to."""


class ConnectFailed(TransportError):
    """No connection could be made; nothing was sent."""


class ConnectionBroken(TransportError):
    """The connection ended before the answer did; upstream may have run the request."""


class ReadTimeout(TransportError):
    """Upstream was silent for too long; it may still be running the request."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections of one deployment go."""

    host: str
    port: int
    tls: bool


class Response:
    """One answer; it owns its connection until :meth:`read` or :meth:`chunk` is through, or :meth:`close`."""

    __slots__ = ("_handler", "_origin", "_payload", "_read_timeout", "_transport", "headers", "status")

    def __init__(
        self,
        transport: Transport,
        origin: Origin,
        handler: ResponseHandler,
        message: RawResponseMessage,
        payload: StreamReader,
        read_timeout: float | None,
    ) -> None:
        self.status: int = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self._transport = transport
        self._origin = origin
        self._handler: ResponseHandler | None = handler
        self._payload = payload
        self._read_timeout = read_timeout
        if message.should_close:
            handler.force_close()

    async def read(self) -> bytes:
        """The whole body; raises :class:`ConnectionBroken` or :class:`ReadTimeout`."""
        self._bound()
        try:
            body = await self._whole()
        except _BROKEN as error:
            self.close()
            raise _translated(error) from error
        except BaseException:
            self.close()
            raise
        self._release()
        return body

    async def _whole(self) -> bytes:
        payload = self._payload
        if payload.is_eof():
            return payload.read_nowait()
        pieces: list[bytes] = []
        size = 0
        async for chunk in payload.iter_any():
            size += len(chunk)
            if size > _LARGEST_ANSWER:
                raise ClientError("too large")
            pieces.append(chunk)
        return b"".join(pieces)

    async def chunk(self) -> bytes:
        """What has arrived of the body since the last call, empty at its end; waits for some.

        Raises :class:`ConnectionBroken` or :class:`ReadTimeout`.
        """
        self._bound()
        try:
            chunk: bytes = await self._payload.readany()
        except _BROKEN as error:
            self.close()
            raise _translated(error) from error
        except BaseException:
            self.close()
            raise
        if not chunk:
            self._release()
        elif self._handler is not None and self._read_timeout is not None:
            # Whoever takes long over what it got has not been kept waiting by upstream.
            self._transport.deadlines.remove(self._handler)
        return chunk

    def close(self) -> None:
        """Give up the rest of the answer and its connection."""
        if self._handler is not None:
            self._transport.give_up(self._handler)
            self._handler = None

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bound(self) -> None:
        if self._handler is not None and self._read_timeout is not None:
            self._transport.deadlines.add(self._handler, self._read_timeout)

    def _release(self) -> None:
        if self._handler is not None:
            self._transport.release(self._origin, self._handler)
            self._handler = None


class _Deadlines:
    """Ends answers that take too long, with one timer for all of them.

    A timer for each request costs more than the rest of its bookkeeping; nobody needs an upstream time limit that is
    exact to a fraction of a second.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[ResponseHandler, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, handler: ResponseHandler, seconds: float) -> None:
        self._due[handler] = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_later(_DEADLINE_STEP, self._look)

    def remove(self, handler: ResponseHandler) -> None:
        self._due.pop(handler, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._loop.time()
        for handler in [handler for handler, due in self._due.items() if due <= now]:
            del self._due[handler]
            # aiohttp's own way to end a read that took too long: the reader gets a ServerTimeoutError.
            handler._on_read_timeout()
        self._timer = self._loop.call_later(_DEADLINE_STEP, self._look) if self._due else None


class Transport:
    """Connections to all origins of one process; ask for it once and close it at the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: defaultdict[Origin, deque[tuple[float, ResponseHandler]]] = defaultdict(deque)
        self.deadlines = _Deadlines(self._loop)
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
    ) -> Response:
        """Send one request and wait for the head of its answer.

        ``head`` is the request line and headers, complete with the blank line. ``total_timeout`` bounds the time until
        the answer has been read, ``read_timeout`` each silence of upstream, ``first_byte_timeout`` the one before the
        answer, and ``connect_timeout`` the making of a connection, all in seconds. Raises :class:`TransportError`.
        """
        handler = self._pooled(origin)
        if handler is None:
            handler = await self._connect(origin, connect_timeout or _CONNECT_TIMEOUT)
        began = self._loop.time()
        limits = [one for one in (first_byte_timeout, total_timeout or read_timeout) if one is not None]
        if limits:
            self.deadlines.add(handler, min(limits))
        try:
            handler.set_response_params(read_until_eof=True, read_bufsize=_READ_BUFFER)
            transport = cast(asyncio.Transport, handler.transport)
            transport.write(head + body if len(body) < _READ_BUFFER else head)
            if len(body) >= _READ_BUFFER:
                transport.write(body)
            message, payload = await handler.read()
            while message.code < 200:
                message, payload = await handler.read()
        except _BROKEN as error:
            self.give_up(handler)
            raise _translated(error) from error
        except BaseException:
            self.give_up(handler)
            raise
        if total_timeout is None:
            self.deadlines.remove(handler)
        elif first_byte_timeout is not None:
            self.deadlines.add(handler, total_timeout - (self._loop.time() - began))
        return Response(self, origin, handler, message, payload, read_timeout)

    def release(self, origin: Origin, handler: ResponseHandler) -> None:
        """Take back a connection whose answer has been read."""
        self.deadlines.remove(handler)
        transport = handler.transport
        if (
            self._closed
            or handler.should_close
            or transport is None
            or transport.is_closing()
            # An answer that came before the request was sent whole: the rest would stand before the next request.
            or transport.get_write_buffer_size()
        ):
            handler.abort()
            return
        idle = self._idle[origin]
        moment = monotonic()
        while idle and (moment - idle[0][0] > _KEEPALIVE or not idle[0][1].is_connected()):
            idle.popleft()[1].close()
        idle.append((moment, handler))

    def give_up(self, handler: ResponseHandler) -> None:
        """Drop a connection in the middle of an answer."""
        self.deadlines.remove(handler)
        handler.abort()

    async def close(self) -> None:
        """Close every idle connection; those in use close when they are released."""
        self._closed = True
        self.deadlines.close()
        for handlers in self._idle.values():
            for _, handler in handlers:
                handler.close()
        self._idle.clear()
        await asyncio.sleep(0)

    def _pooled(self, origin: Origin) -> ResponseHandler | None:
        handlers = self._idle.get(origin)
        while handlers:
            released_at, handler = handlers.pop()
            if monotonic() - released_at > _KEEPALIVE:
                handler.close()
                while handlers:
                    handlers.pop()[1].close()
                return None
            if handler.is_connected() and not handler.should_close:
                return handler
            handler.close()
        return None

    async def _connect(self, origin: Origin, seconds: float) -> ResponseHandler:
        try:
            async with asyncio.timeout(seconds):
                _, handler = await self._loop.create_connection(
                    lambda: ResponseHandler(loop=self._loop),
                    origin.host,
                    origin.port,
                    ssl=self._tls_context() if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except TimeoutError as error:
            raise ConnectFailed(f"no connection to {origin.host} within {seconds:g} s") from error
        except (OSError, ssl.SSLError) as error:
            raise ConnectFailed(f"no connection to {origin.host}: {error}") from error
        return handler

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


def _translated(error: Exception) -> TransportError:
    match error:
        case ServerTimeoutError():
            return ReadTimeout("upstream was silent for too long")
        case ServerDisconnectedError():
            return ConnectionBroken("the connection was closed")
        case OSError():
            return ConnectionBroken(error.strerror or "the connection was lost")
        case HttpProcessingError():
            return ConnectionBroken("what came is not HTTP")
        case _:
            return ConnectionBroken("the answer was cut off")
