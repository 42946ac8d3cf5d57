"""One HTTP/1.1 connection to upstream: llhttp's parser on an asyncio protocol, one answer at a time.

What arrives is handed on in the call that it arrives in: to a callback while somebody pumps a stream, else to a list
that its reader is woken for. A stream of a thousand events wakes its reader once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple, cast

import httptools
from multidict import CIMultiDict, CIMultiDictProxy

#: Bytes of a body that may wait for a reader before the peer has to.
_READ_BUFFER: Final = 256 * 1024
#: A longer head is no answer.
_LONGEST_HEAD: Final = 256 * 1024
_NOT_HTTP: Final = "what came is not HTTP"


class TransportError(Exception):
    """Upstream could not be spoken to."""


class ConnectFailed(TransportError):
    """No connection could be made; nothing was sent."""


class ConnectionBroken(TransportError):
    """The connection ended before the answer did; upstream may have run the request."""


class ReadTimeout(TransportError):
    """Upstream was silent for too long; it may still be running the request."""


class Overdue(ReadTimeout):
    """The time for the answer is over; the connection is kept, and the answer may still come."""


class Origin(NamedTuple):
    """Where connections of one deployment go."""

    host: str
    port: int
    tls: bool


class Flow(Enum):
    """What whoever is given a piece of a stream wants next."""

    MORE = 1
    #: Nothing until it says so.
    HOLD = 2
    #: Nothing at all.
    ENOUGH = 3


class Exchange:
    """What has come of one answer so far."""

    __slots__ = (
        "_headers",
        "_waiter",
        "ended",
        "error",
        "failure",
        "has_head",
        "late",
        "patient",
        "pieces",
        "raw_headers",
        "size",
        "status",
        "take",
        "wanted",
        "whole",
    )

    def __init__(self) -> None:
        self.status = 0
        self.has_head = False
        self.raw_headers: list[tuple[bytes, bytes]] = []
        #: What nobody has taken of the body yet.
        self.pieces: list[bytes] = []
        self.size = 0
        self.ended = False
        self.error: TransportError | None = None
        #: Takes what comes of the body when it arrives, until it wants something else or fails; which of both it was.
        self.take: Callable[[bytes], Flow] | None = None
        self.wanted = Flow.MORE
        self.failure: Exception | None = None
        #: Whether the answer is still wanted when its time is over, and whether that has happened and is to be told.
        self.patient = False
        self.late: Overdue | None = None
        #: Whether the body is wanted as a whole, so that the peer need not wait until a piece is taken.
        self.whole = False
        self._headers: CIMultiDictProxy[str] | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers, read when somebody asks for them."""
        if self._headers is None:
            found = CIMultiDict[str]()
            for name, value in self.raw_headers:
                found.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
            self._headers = CIMultiDictProxy(found)
        return self._headers

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the end of the connection ends the body (RFC 9112 6.3)."""
        headers = self.headers
        return (
            "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", "").lower()
        )

    def give(self, take: Callable[[bytes], Flow]) -> bool:
        """Hand over what nobody has taken yet, as one piece; whether more is wanted."""
        pieces, self.pieces, self.size = self.pieces, [], 0
        try:
            wanted = take(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        except Exception as error:
            self.failure, self.take = error, None
            return False
        if wanted is not Flow.MORE:
            self.wanted, self.take = wanted, None
            return False
        return True

    def changed(self) -> asyncio.Future[None]:
        """What to wait for where more is wanted; :meth:`check` it before and behind that."""
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        return waiter

    def wake(self) -> None:
        """Let whoever waits look."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def check(self) -> None:
        """Raise what has ended the exchange, and :class:`Overdue` once."""
        if self.error is not None:
            raise self.error
        if self.late is not None:
            late, self.late = self.late, None
            raise late

    def fail(self, error: TransportError) -> None:
        """Nothing more will come."""
        if not self.ended and self.error is None:
            self.error = error
            self.wake()


class Connection(asyncio.Protocol):
    """Speaks to one upstream."""

    __slots__ = (
        "_head_size",
        "_informational",
        "_loop",
        "_parser",
        "_paused",
        "exchange",
        "heard",
        "reusable",
        "transport",
    )

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.exchange: Exchange | None = None
        #: Whether another request may be sent when the answer is through.
        self.reusable = True
        #: When something came last, by the clock of the loop.
        self.heard = 0.0
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._head_size = 0
        self._informational = False
        self._paused = False

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return not self.transport.is_closing()

    def begin(self) -> Exchange:
        """Expect an answer."""
        self._head_size = 0
        exchange = self.exchange = Exchange()
        return exchange

    def pause(self) -> None:
        """Let the peer wait."""
        if not self._paused and self.is_open:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Take more of the peer."""
        if self._paused:
            self._paused = False
            if self.is_open:
                self.transport.resume_reading()

    def abort(self, error: TransportError | None = None) -> None:
        """Drop the connection; whoever waits for an answer gets the error."""
        exchange, self.exchange = self.exchange, None
        self.reusable = False
        self.transport.abort()
        if exchange is not None:
            exchange.fail(error or ConnectionBroken("the connection was closed"))

    def time_out(self, reason: str) -> None:
        """The time for the answer is over: whoever is patient is told so, and for others the connection is dropped."""
        exchange = self.exchange
        if exchange is None or not exchange.patient:
            self.abort(ReadTimeout(reason))
            return
        exchange.patient = False
        exchange.late = Overdue(reason)
        exchange.wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, and hand it on."""
        self.heard = self._loop.time()
        exchange = self.exchange
        if exchange is None:
            # Nobody has asked for it.
            self.abort()
            return
        is_http = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            is_http = False
        if exchange.take is not None and exchange.pieces:
            exchange.give(exchange.take)
        if not is_http:
            self.abort(ConnectionBroken(_NOT_HTTP))
            # What ended before that is whole.
            exchange.wake()
        elif not exchange.has_head:
            self._head_size += len(data)
            if self._head_size > _LONGEST_HEAD:
                self.abort(ConnectionBroken("the head of the answer is too long"))
        elif exchange.take is None or exchange.ended:
            exchange.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has closed, or the connection was dropped."""
        self.reusable = False
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if exc is None and exchange.has_head and exchange.ends_with_connection:
            exchange.ended = True
            exchange.wake()
        elif isinstance(exc, OSError):
            exchange.fail(ConnectionBroken(exc.strerror or "the connection was lost"))
        else:
            exchange.fail(
                ConnectionBroken(
                    "the answer was cut off" if exchange.has_head else "the connection was closed"
                )
            )

    def on_message_begin(self) -> None:
        """An answer begins; one that was not asked for spoils the connection."""
        if self.exchange is None:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, or a trailer of what has ended."""
        exchange = self.exchange
        if exchange is not None and not exchange.has_head:
            exchange.raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there, unless it is one that only comes before the real one (RFC 9110 15.2)."""
        exchange = self.exchange
        if exchange is None:
            return
        exchange.status = self._parser.get_status_code()
        self._informational = exchange.status < 200
        if self._informational:
            exchange.raw_headers.clear()
        else:
            exchange.has_head = True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body until all that has come with it is parsed."""
        exchange = self.exchange
        if exchange is None:
            return
        exchange.pieces.append(body)
        if exchange.take is None:
            exchange.size += len(body)
            if exchange.size > _READ_BUFFER and not exchange.whole:
                self.pause()

    def on_message_complete(self) -> None:
        """The answer is through."""
        exchange = self.exchange
        if exchange is None or self._informational:
            return
        self.exchange = None
        self.reusable = self.reusable and self._parser.should_keep_alive()
        exchange.ended = True
