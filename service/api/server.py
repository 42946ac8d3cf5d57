"""The HTTP server where it differs from aiohttp's: what it takes, and what it says to requests that reach no handler.

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
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import orjson
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from service.errors import ApiError, InvalidRequest, NotFound, RequestTimeout, ServiceError
from service.wire import ids

logger = logging.getLogger(__name__)

_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HEAD_END: Final = b"\r\n\r\n"
#: The parser refuses longer heads anyway; beyond this nothing is held back from it.
_LONGEST_HEAD: Final = 256 * 1024
#: From its first bytes to its last.
_HEAD_SECONDS: Final = 60.0
#: The parser refuses it, so nothing is held back in which there is one: the end of such a head would never be found.
_BARE_LINE_FEED: Final = re.compile(rb"(?<!\r)\n")
#: A request line begins, or may: the rest of a head that a pipelining peer split does not look like this.
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20}(?: |$)")
_REPEATED: Final = re.compile(r"Duplicate '([A-Za-z-]+)' header")
_USER_AGENT: Final = re.compile(rb"\r\nuser-agent:[^\r\n]*", re.IGNORECASE)


class TolerantHandler(web.RequestHandler):
    """One connection; holds back a head until it is whole and forwards everything else as it comes."""

    __slots__ = ("_body", "_head", "_head_timer")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._body: StreamReader | None = None
        self._head = b""
        self._head_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._upgraded or (self._body is not None and not self._body.is_eof()):
            # The next request may begin behind the body.
            self._forward(data)
            return
        if self._head:
            data, self._head = self._head + data, b""
        elif _REQUEST_LINE.match(data) is None:
            found = self._request_count
            self._forward(data)
            # Some clients send a blank line behind a body.
            if self._request_count == found and data.strip():
                self._await_head()
            return
        end = data.find(_HEAD_END)
        if end < 0 and len(data) < _LONGEST_HEAD and _BARE_LINE_FEED.search(data) is None:
            self._head = data
            self._await_head()
            return
        if data.count(b"gent:") + data.count(b"GENT:") < 2:
            self._forward(data)
        else:
            self._forward_carefully(data, end + len(_HEAD_END))

    def _forward_carefully(self, data: bytes, head_end: int) -> None:
        """Forward the first message of the bytes with one ``User-Agent``, then look at the next one."""
        self._forward(_with_one_user_agent(data[:head_end]))
        rest = data[head_end:]
        if self._body is not None and not self._body.is_eof():
            message = self._messages[-1][0]
            declared = (
                message.headers.get("Content-Length") if isinstance(message, RawRequestMessage) else None
            )
            length = len(rest) if declared is None else int(declared)
            self._forward(rest[:length])
            rest = rest[length:]
        if rest:
            self.data_received(rest)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Let the peer go on; aiohttp says so for every body that is read, and parses nothing at all once more.

        A body that is here whole has nothing left to be parsed; of any other the parser may have stopped by itself.
        """
        if self._reading_paused or self._body is None or not self._body.is_eof():
            super().resume_reading(resume_parser)

    def _forward(self, data: bytes) -> None:
        found = self._request_count
        super().data_received(data)
        if self._request_count != found:
            if self._messages:
                self._body = self._messages[-1][1]
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

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
        self._head = b""
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
        repeated = _REPEATED.search(message or "")
        error: ServiceError = ApiError()
        if status == RequestTimeout.status:
            error = RequestTimeout()
        elif status < 500:
            error = InvalidRequest(
                f"The request repeats the header {repeated[1]}; send it once."
                if repeated
                else "The request is not valid HTTP, or its head is too long."
            )
        else:
            logger.error("a request failed outside its handler", exc_info=exc)
        return _refusal(error)

    def eof_received(self) -> None:
        """The peer has finished sending; a head that never became whole is the parser's to judge."""
        if self._head:
            data, self._head = self._head, b""
            super().data_received(data)
        super().eof_received()


class TolerantServer(web.Server):
    """Makes a :class:`TolerantHandler` for each connection."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return TolerantHandler(self, loop=self._loop, **self._kwargs)


class _Remembering:
    """Finds the handler of a path without parameters once, not for every request.

    What the router says of such a path never changes, and asking it costs a thirtieth of a create.
    """

    def __init__(self, handle: _Handle) -> None:
        self._handle = handle
        self._known: dict[tuple[str, str], web.UrlMappingMatchInfo] = {}

    def __call__(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        """Serve a request."""
        message = request._message
        known = self._known.get((message.method, message.path))
        if known is not None and "Expect" not in message.headers:
            request._match_info = known
            return known.handler(request)
        return self._find(request)

    async def _find(self, request: web.Request) -> web.StreamResponse:
        place = (request.method, request._message.path)
        try:
            response = await self._handle(request)
        except web.HTTPNotFound:
            # Targets that are no paths, which no route can match: those of OPTIONS and CONNECT.
            return _refusal(
                NotFound(f"{request.method} asks for what is no path; this service serves paths only.")
            )
        found = request._match_info
        resource = found.route.resource if found is not None else None
        if found is not None and isinstance(resource, web.PlainResource) and resource.canonical == place[1]:
            self._known[place] = found
        return response


class TolerantRunner(web.AppRunner):
    """Runs an application behind a :class:`TolerantServer`."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        handle = cast(_Handle, server.request_handler)
        if not self.app.middlewares:
            # What is remembered is the handler alone, which no middleware would be around.
            handle = _Remembering(handle)
        return TolerantServer(cast(Any, handle), request_factory=server.request_factory, **server._kwargs)


def _refusal(error: ServiceError) -> web.Response:
    """An error in Google's shape (contract 7.1), behind which the connection is closed."""
    response = web.Response(
        status=error.status,
        body=orjson.dumps(error.body()),
        headers={"x-request-id": ids.to_text(ids.mint())},
        content_type="application/json",
    )
    response.force_close()
    return response


def _with_one_user_agent(head: bytes) -> bytes:
    first = _USER_AGENT.search(head)
    return head if first is None else head[: first.end()] + _USER_AGENT.sub(b"", head[first.end() :])
