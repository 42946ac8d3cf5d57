"""One answer of upstream as its reader takes it: whole, piece by piece, or pumped to whoever takes each at once."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol

from multidict import CIMultiDictProxy

from service.upstream.connection import (
    Connection,
    ConnectionBroken,
    Exchange,
    Flow,
    Origin,
    Overdue,
    ReadTimeout,
    TransportError,
)
from service.upstream.deadlines import Deadlines

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
#: A unary answer that is larger is given up.
_LARGEST_ANSWER: Final = 256 * 1024 * 1024


class Lender(Protocol):
    """Whose connections answers come on."""

    deadlines: Deadlines

    def release(self, origin: Origin, connection: Connection) -> None:
        """Take back a connection whose answer has been read."""

    def give_up(self, connection: Connection, error: TransportError | None = None) -> None:
        """Drop a connection in the middle of an answer; whoever waits for that gets the error."""


class LateAnswer(ReadTimeout):
    """The time for an answer is over; ``response`` can be waited for on, and must be read or closed."""

    def __init__(self, response: Response, reason: str) -> None:
        super().__init__(reason)
        self.response = response


class Response:
    """One answer; it owns its connection until all of it is read, or :meth:`close`."""

    __slots__ = ("_connection", "_exchange", "_lender", "_origin", "_read_timeout")

    def __init__(
        self,
        lender: Lender,
        origin: Origin,
        connection: Connection,
        exchange: Exchange,
        read_timeout: float | None,
    ) -> None:
        self._lender = lender
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
            self._lender.deadlines.remove(self._connection)
            if seconds is not None:
                self._lender.deadlines.add(self._connection, seconds)

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
            told = arrived.removeprefix(BYTE_ORDER_MARK).lstrip()
            if (told and told not in BYTE_ORDER_MARK) or exchange.ended:
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
        """Hand the body to ``take``, what comes together as one piece and at once, until that wants something else.

        Returns what it wanted, :data:`Flow.HOLD` or :data:`Flow.ENOUGH`, and :data:`Flow.MORE` when the body has ended.
        Upstream has to wait when whoever holds does not pump on. Raises what ``take`` raises, and
        :class:`ConnectionBroken` or :class:`ReadTimeout`.
        """
        exchange = self._exchange
        exchange.take, exchange.wanted, exchange.failure = take, Flow.MORE, None
        wants_more = not exchange.pieces or exchange.give(take)
        if wants_more and not exchange.ended:
            self._limit_silence()
            try:
                await self._changed()
            except TransportError:
                # Nothing more was wanted of what broke; whoever reads on is told.
                if exchange.take is not None:
                    raise
        exchange.take = None
        self._forget_silence()
        if exchange.failure is not None:
            raise exchange.failure
        wanted = exchange.wanted
        if wanted is Flow.HOLD and self._connection is not None:
            self._connection.pause()
        if wanted is Flow.MORE:
            self._release()
        return wanted

    def close(self, error: TransportError | None = None) -> None:
        """Give up the rest of the answer and its connection; whoever waits for it gets the error."""
        if self._connection is not None:
            self._lender.give_up(self._connection, error)
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
        exchange = self._exchange
        try:
            exchange.check()
            await exchange.changed()
            exchange.check()
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
            self._lender.deadlines.add_silence(self._connection, self._read_timeout)

    def _forget_silence(self) -> None:
        """Whoever takes long over what it got has not been kept waiting by upstream."""
        if self._connection is not None and self._read_timeout is not None:
            self._lender.deadlines.remove(self._connection)

    def _release(self) -> None:
        if self._connection is not None:
            self._lender.release(self._origin, self._connection)
            self._connection = None
