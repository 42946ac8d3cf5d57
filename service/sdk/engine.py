"""Asks one service: connections, errors, repeats of what may be repeated. Lives on the loop thread."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Iterable
from io import BytesIO
from typing import Any, Final, TypeVar, cast

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
)
from yarl import URL

from service import __version__
from service.sdk.calls import Answer, Call
from service.sdk.errors import ClientUnusable, ConnectionFailed, ConnectionLost, RequestTimeout
from service.sdk.loop_thread import CLOSED, LoopThread
from service.sdk.options import Target
from service.sdk.targets import service_of

T = TypeVar("T")
_Send = Callable[[ClientSession, Call], Awaitable[T]]

#: Pauses before a request is sent again, in seconds.
_PAUSES: Final = (0.2, 1.0)
_CONNECT: Final = 10.0
_HEADERS: Final = {
    "Api-Revision": "2026-05-20",
    "User-Agent": f"interactions-service-sdk/{__version__}",
    "Accept": "application/json, text/event-stream",
}
_EVENTS: Final = "text/event-stream"
_BUFFER: Final = 256 * 1024
#: aiohttp wants larger bodies as files.
_LARGE: Final = 1024 * 1024
_TIMEOUT: Final = ClientTimeout(total=None, sock_connect=_CONNECT)


class Engine:
    """Asks one target. Everything but the constructor runs on ``thread``."""

    def __init__(self, target: Target, thread: LoopThread) -> None:
        """Start nothing yet; raises :class:`SdkConfigurationError` when the target cannot be one."""
        self.thread = thread
        self._service = service_of(target)
        self._session: ClientSession | None = None
        self._starting = asyncio.Lock()
        self._active: set[asyncio.Task[Any]] = set()
        #: Streams that are being read, or were dropped and not closed yet.
        self._streams: weakref.WeakSet[ClientResponse] = weakref.WeakSet()
        self._closing: asyncio.Task[None] | None = None

    @property
    def uses_sqlite(self) -> bool:
        """Whether it opens a SQLite file in this process."""
        return self._service.uses_sqlite

    async def ask(self, call: Call) -> Answer:
        """The whole answer, whatever its status; raises :class:`InteractionsError` when there is none."""
        return await self._repeatedly(call, self._read, _PAUSES)

    async def open(self, call: Call, *, repeat: bool = True) -> ClientResponse | Answer:
        """A response whose events are still to be read, or an answer where there are none."""
        return await self._repeatedly(call, self._open, _PAUSES if repeat else ())

    async def close(self) -> None:
        """Let open calls come to their end, for as long as the service allows, then close all.

        Goes on when the wait for it is cancelled.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._active:
            await asyncio.wait(self._active, timeout=self._service.grace)
        async with self._starting:
            for response in self._streams:
                response.close()
            if self._session is not None:
                await self._session.close()
                self._session = None
            await self._service.close()

    async def _repeatedly(self, call: Call, send: _Send[T], pauses: Iterable[float]) -> T:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._active.add(task)
        try:
            session = await self._started()
            for pause in pauses:
                try:
                    return await self._sent(session, call, send)
                except ConnectionFailed:
                    pass
                except ConnectionLost:
                    if not call.repeatable:
                        raise
                await asyncio.sleep(pause)
            return await self._sent(session, call, send)
        finally:
            self._active.discard(task)

    async def _sent(self, session: ClientSession, call: Call, send: _Send[T]) -> T:
        try:
            async with asyncio.timeout(call.timeout):
                return await send(session, call)
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise ConnectionFailed(f"No connection to {self._service.base_url}: {error}") from error
        except TimeoutError as error:
            raise RequestTimeout(f"There was no answer within {call.timeout:g} seconds.") from error
        except (ClientError, OSError) as error:
            raise ConnectionLost(
                f"The connection was lost before the answer was there ({_reason(error)}); the request may have been "
                "carried out."
            ) from error

    async def _read(self, session: ClientSession, call: Call) -> Answer:
        async with await self._response(session, call) as response:
            return Answer(response.status, response.headers, await response.read())

    async def _open(self, session: ClientSession, call: Call) -> ClientResponse | Answer:
        response = await self._response(session, call)
        if response.status < 300 and response.content_type == _EVENTS:
            self._streams.add(response)
            return response
        async with response:
            return Answer(response.status, response.headers, await response.read())

    async def _response(self, session: ClientSession, call: Call) -> ClientResponse:
        headers = dict(call.headers)
        content = call.content()
        if content is not None:
            headers.setdefault("Content-Type", "application/json")
        return await session.request(
            call.method,
            URL(self._service.base_url + call.path, encoded=True).update_query(call.query),
            data=None if content is None else BytesIO(content) if len(content) > _LARGE else content,
            headers=headers,
            allow_redirects=False,
        )

    async def _started(self) -> ClientSession:
        async with self._starting:
            if self._closing is not None:
                raise ClientUnusable(CLOSED)
            if self._session is None:
                connector = await self._service.start()
                self._session = ClientSession(
                    connector=connector,
                    headers={**_HEADERS, **self._service.headers},
                    cookie_jar=DummyCookieJar(),
                    timeout=_TIMEOUT,
                    trust_env=self._service.outside,
                    read_bufsize=_BUFFER,
                )
            return self._session


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
