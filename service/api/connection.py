"""One connection of a client, where it differs from aiohttp's: what it takes, and what it says to what is no request.

A second ``User-Agent`` header does not refuse the request: google-genai 1.55 to 2.8 sends two (contract 9.3); aiohttp's
C parser answers 400 to any duplicate of a header that may come once. The second line is taken out of the head before
the parser sees it, and nothing else is touched: duplicates of ``Host``, ``Content-Length`` and ``Transfer-Encoding``
are refused as ever. Bytes of a body are never looked at: a head is only looked for where the last message has ended.

A head that has begun must be whole soon, or the connection is closed; one that is idle between two may stay so.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any, Final

import orjson
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from service.api.answering import AnsweringHandler
from service.errors import ApiError, InvalidRequest, RequestTimeout, ServiceError
from service.wire import ids

logger = logging.getLogger(__name__)

_HEAD_END: Final = b"\r\n\r\n"
#: Beyond this nothing is held back from the parser, which has bounds of its own.
_LONGEST_HEAD: Final = 64 * 1024
#: From its first bytes to its last.
_HEAD_SECONDS: Final = 60.0
_CARRIAGE_RETURN: Final = 0x0D
#: A request line begins, or may: the rest of a head that a pipelining peer split does not look like this.
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20}(?: |$)")
_REPEATED: Final = re.compile(r"Duplicate '([A-Za-z-]+)' header")
#: The parser's word for an encoding that needs a package which is not there.
_ENCODED: Final = "content-encoding"
_USER_AGENT: Final = re.compile(rb"\r\nuser-agent:[^\r\n]*", re.IGNORECASE)


class TolerantHandler(AnsweringHandler):
    """One connection; holds back a head until it is whole and forwards everything else as it comes."""

    __slots__ = ("_body", "_head", "_head_timer")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: That of the last message.
        self._body: StreamReader | None = None
        self._head = bytearray()
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def is_answering(self) -> bool:
        """Whether a request has come that is not answered yet."""
        return self._request_in_progress

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket, or none where the parser is to go on with what it has."""
        if self._messages or self._current_request is not None:
            self._see_body()
        if not data:
            self._forward(data)
            return
        rest = self._take(data)
        while rest:
            rest = self._take(rest)

    def _take(self, data: bytes) -> bytes:
        """Forward bytes or hold them back; gives those that are still to be looked at."""
        if self._upgraded or (self._body is not None and not self._body.is_eof()):
            self._forward_body(data)
            return b""
        known = len(self._head)
        if known:
            self._head += data
        else:
            if data[:1] in (b"\r", b"\n"):
                # Some clients send blank lines behind a body (RFC 9112 2.2).
                data = data.lstrip(b"\r\n")
                if not data:
                    return b""
            if _REQUEST_LINE.match(data) is None:
                found = self._request_count
                self._forward(data)
                if self._request_count == found:
                    self._await_head()
                return b""
        head = self._head if known else data
        end = head.find(_HEAD_END, max(0, known - 3))
        if end < 0 and len(head) < _LONGEST_HEAD and not _has_bare_line_feed(head, known):
            if not known:
                self._head += data
            self._await_head()
            return b""
        if known:
            data = bytes(head)
            self._head.clear()
        if end < 0 or data.count(b"gent:") + data.count(b"GENT:") < 2:
            self._forward(data)
            return b""
        return self._forward_carefully(data, end + len(_HEAD_END))

    def _forward_carefully(self, data: bytes, head_end: int) -> bytes:
        """Forward the first message of the bytes with one ``User-Agent``; gives what is behind it."""
        self._forward(_with_one_user_agent(data[:head_end]))
        rest = data[head_end:]
        if self._body is not None and not self._body.is_eof():
            message = self._messages[-1][0]
            declared = (
                message.headers.get("Content-Length") if isinstance(message, RawRequestMessage) else None
            )
            length = len(rest) if declared is None else int(declared)
            self._forward_body(rest[:length])
            rest = rest[length:]
        return rest

    def _forward_body(self, data: bytes) -> None:
        """Forward bytes of a body, behind which the next request may begin."""
        body = self._body
        self._forward(data)
        if body is not None and not body.is_eof() and self._messages:
            broken = isinstance(self._messages[-1][0], _ErrInfo)
            if broken and body.exception() is None:
                # Its handler would wait for the rest for ever.
                body.set_exception(web.RequestPayloadError("The body is badly encoded."))

    def _forward(self, data: bytes) -> None:
        found = self._request_count
        super().data_received(data)
        if self._request_count != found:
            if self._messages:
                self._body = self._messages[-1][1]
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
            if self._body is EMPTY_PAYLOAD and not data.endswith(_HEAD_END):
                _, found_end, more = data.rpartition(_HEAD_END)
                if found_end and more.strip():
                    # Behind a request without a body the next one has begun.
                    self._await_head()

    def _see_body(self) -> None:
        """Know which body is the last: aiohttp parses by itself what it had kept behind a request for an upgrade."""
        if self._messages:
            self._body = self._messages[-1][1]
        elif self._current_request is not None:
            self._body = self._current_request._payload

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Let the peer go on; aiohttp says so for every body that is read, and parses nothing at all once more.

        A body that is here whole has nothing left to be parsed; of any other the parser may have stopped by itself.
        """
        if self._reading_paused or self._body is None or not self._body.is_eof():
            super().resume_reading(resume_parser)

    def _await_head(self) -> None:
        """See that what has begun becomes a whole head in time."""
        if self._head_timer is None and self.transport is not None and not (self._close or self._force_close):
            self._head_timer = self._loop.call_later(_HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            # Earlier requests are still being answered.
            self._await_head()
            return
        self._head.clear()
        late = HttpProcessingError(code=RequestTimeout.status)
        self._messages.append((_ErrInfo(late.code, late, late.message), EMPTY_PAYLOAD))
        self._request_count += 1
        waiter.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The peer is gone."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is wrong with a request that reached no handler, in Google's error shape.

        Never repeats what was sent: aiohttp's own text quotes headers, keys among them.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        if self.transport is None and isinstance(exc, OSError):
            logger.info("a client left before it was answered (%s)", type(exc).__name__)
            raise ConnectionError("nobody is there to be answered") from exc
        error: ServiceError = ApiError()
        if status == RequestTimeout.status:
            error = RequestTimeout()
        elif status < 500:
            error = InvalidRequest(_what_is_wrong(message or ""))
        else:
            logger.error("a request failed outside its handler", exc_info=exc)
        return refusal(error)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """What aiohttp could not foresee; that the rest of a body cannot be read is its sender's fault."""
        error = kwargs.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            logger.info("the rest of a request's body could not be read: %s", type(error).__name__)
        else:
            super().log_exception(*args, **kwargs)

    def eof_received(self) -> None:
        """The peer has finished sending; a head that never became whole is the parser's to judge."""
        if self._head:
            data = bytes(self._head)
            self._head.clear()
            super().data_received(data)
        super().eof_received()


def _what_is_wrong(message: str) -> str:
    """With what the parser could not take, by its own words."""
    if repeated := _REPEATED.search(message):
        return f"The request repeats the header {repeated[1]}; send it once."
    if _ENCODED in message:
        return (
            "The header 'Content-Encoding' names what is not understood here; "
            "send the body plain, or as gzip or deflate."
        )
    return "The request is not valid HTTP, or its head is too long."


def refusal(error: ServiceError) -> web.Response:
    """An error in Google's shape (contract 7.1), behind which the connection is closed."""
    response = web.Response(
        status=error.status,
        body=orjson.dumps(error.body()),
        headers={"x-request-id": ids.to_text(ids.mint())},
        content_type="application/json",
    )
    response.force_close()
    return response


def _has_bare_line_feed(head: bytes | bytearray, known: int) -> bool:
    """Whether one is behind what was looked at before: the parser refuses it, and the end of such a head has none."""
    place = head.find(b"\n", known)
    while place >= 0:
        if place == 0 or head[place - 1] != _CARRIAGE_RETURN:
            return True
        place = head.find(b"\n", place + 1)
    return False


def _with_one_user_agent(head: bytes) -> bytes:
    first = _USER_AGENT.search(head)
    return head if first is None else head[: first.end()] + _USER_AGENT.sub(b"", head[first.end() :])
