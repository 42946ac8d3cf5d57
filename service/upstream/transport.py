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
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from types import TracebackType
from typing import Final

from multidict import CIMultiDictProxy

from service.errors import ConfigurationError
from service.upstream.connection import (
    ConnectFailed,
    Connection,
    ConnectionBroken,
    Exchange,
    Overdue,
    ReadTimeout,
    TransportError,
)
from service.upstream.deadlines import Deadlines

__all__ = (
    "ConnectFailed",
    "ConnectionBroken",
    "Flow",
    "LateAnswer",
    "Origin",
    "ReadTimeout",
    "Response",
    "Transport",
    "TransportError",
    "request_head",
)

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CONNECT_TIMEOUT: Final = 10.0
#: Seconds after which an idle connection is not used again: less than Google's front end keeps one.
_KEEPALIVE: Final = 60.0
#: A body that is larger is written by itself, not copied behind its head.
_LARGE_BODY: Final = 256 * 1024
#: A unary answer that is larger is given up.
_LARGEST_ANSWER: Final = 256 * 1024 * 1024
_FORBIDDEN_IN_HEAD: Final = frozenset("\r\n\0")


class Flow(Enum):
    """What whoever is given a piece of a stream wants next."""

    MORE = 1
    #: Nothing until it says so.
    HOLD = 2
    #: Nothing at all.
    ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections of one deployment go."""

    host: str
    port: int
    tls: bool


class LateAnswer(ReadTimeout):
    """The time for an answer is over; ``response`` can be waited for on, and must be read or closed."""

    def __init__(self, response: Response, reason: str) -> None:
        super().__init__(reason)
        self.response = response


class Response:
    """One answer; it owns its connection until all of it is read, or :meth:`close`."""

    __slots__ = ("_connection", "_exchange", "_origin", "_read_timeout", "_transport")

    def __init__(
        self,
        transport: Transport,
        origin: Origin,
        connection: Connection,
        exchange: Exchange,
        read_timeout: float | None,
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connection: Connection | None = connection
        self._exchange = exchange
        self._read_timeout = read_timeout

    @property
    def status(self) -> int:
        """The HTTP status; 0 until :meth:`head`."""
        return self._exchange.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers; their names in any case."""
        return self._exchange.headers

    async def head(self) -> None:
        """Wait for the head, which all answers have but late ones; raises as :meth:`read` does."""
        exchange = self._exchange
        while not exchange.has_head:
            try:
                await self._changed()
            except ConnectionBroken:
                # Whoever reads the body is told, behind what came of it.
                if not exchange.has_head:
                    raise

    def bound(self, seconds: float | None) -> None:
        """Give a late answer so many seconds more until it has been read, and then no others; None: no such bound."""
        if self._connection is not None:
            self._transport.deadlines.remove(self._connection)
            if seconds is not None:
                self._transport.deadlines.add(self._connection, seconds)

    async def read(self) -> bytes:
        """The whole body; raises :class:`ConnectionBroken`, :class:`ReadTimeout`, or :class:`LateAnswer` once."""
        exchange = self._exchange
        exchange.whole = True
        if not exchange.ended:
            self._limit_silence()
            await self._until_ended()
        self._release()
        return exchange.pieces[0] if len(exchange.pieces) == 1 else b"".join(exchange.pieces)

    async def beginning(self) -> bytes:
        """What has arrived, as soon as that shows how the body begins, which stays to be read; empty if nothing comes.

        Blanks and a byte order mark say nothing of that. Raises as :meth:`chunk` does.
        """
        exchange = self._exchange
        while True:
            arrived = b"".join(exchange.pieces)
            told = arrived.removeprefix(_BYTE_ORDER_MARK).lstrip()
            if (told and told not in _BYTE_ORDER_MARK) or exchange.ended:
                return told
            self._limit_silence()
            await self._changed()
            self._forget_silence()

    async def chunk(self) -> bytes:
        """What has arrived of the body since the last call, empty at its end; waits for some.

        Raises :class:`ConnectionBroken` or :class:`ReadTimeout`.
        """
        exchange = self._exchange
        if not exchange.pieces and not exchange.ended:
            self._limit_silence()
            await self._changed()
            self._forget_silence()
        if not (pieces := self._taken()):
            self._release()
        return b"".join(pieces)

    async def pump(self, take: Callable[[bytes], Flow]) -> Flow:
        """Hand each piece of the body to ``take``, in the call that it arrives in, until that wants something else.

        Returns what it wanted, :data:`Flow.HOLD` or :data:`Flow.ENOUGH`, and :data:`Flow.MORE` when the body has ended.
        Upstream has to wait when whoever holds does not pump on. Raises what ``take`` raises, and
        :class:`ConnectionBroken` or :class:`ReadTimeout`.
        """
        exchange = self._exchange
        wanted = Flow.MORE
        failure: Exception | None = None

        def feed(piece: bytes) -> None:
            nonlocal wanted, failure
            try:
                wanted = take(piece)
            except Exception as error:
                failure = error
            if wanted is not Flow.MORE or failure is not None:
                exchange.take = None

        exchange.take = feed
        exchange.give_waiting()
        if wanted is Flow.MORE and failure is None and not exchange.ended:
            self._limit_silence()
            try:
                await self._changed()
            except TransportError:
                # Nothing more was wanted of what broke; whoever reads on is told.
                if exchange.take is not None:
                    raise
        exchange.take = None
        self._forget_silence()
        if failure is not None:
            raise failure
        if wanted is Flow.HOLD and self._connection is not None:
            self._connection.pause()
        if wanted is Flow.MORE:
            self._release()
        return wanted

    def close(self, error: TransportError | None = None) -> None:
        """Give up the rest of the answer and its connection; whoever waits for it gets the error."""
        if self._connection is not None:
            self._transport.give_up(self._connection, error)
            self._connection = None

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _until_ended(self) -> None:
        exchange = self._exchange
        while not exchange.ended:
            if self._connection is not None:
                self._connection.resume()
            if exchange.size > _LARGEST_ANSWER:
                self.close()
                raise ConnectionBroken("the answer is too large")
            await self._changed()

    async def _changed(self) -> None:
        if self._connection is not None:
            self._connection.resume()
        try:
            await self._exchange.changed()
        except Overdue as overdue:
            raise LateAnswer(self, str(overdue)) from overdue
        except BaseException:
            self.close()
            raise

    def _taken(self) -> list[bytes]:
        exchange = self._exchange
        pieces, exchange.pieces, exchange.size = exchange.pieces, [], 0
        return pieces

    def _limit_silence(self) -> None:
        if self._connection is not None and self._read_timeout is not None:
            self._transport.deadlines.add_silence(self._connection, self._read_timeout)

    def _forget_silence(self) -> None:
        """Whoever takes long over what it got has not been kept waiting by upstream."""
        if self._connection is not None and self._read_timeout is not None:
            self._transport.deadlines.remove(self._connection)

    def _release(self) -> None:
        if self._connection is not None:
            self._transport.release(self._origin, self._connection)
            self._connection = None


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
        while idle and (moment - idle[0][0] > _KEEPALIVE or not idle[0][1].is_open):
            idle.popleft()[1].abort()
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
            if connection.reusable and connection.is_open:
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
