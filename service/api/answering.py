"""A connection that answers its requests in its own task, one after the other.

aiohttp makes a task for each request: an object with entries in two registries of asyncio's, a context, and two of the
eight turns of the event loop that a create takes. It does so that no request finds what another one has left in
its context; no handler of this service leaves anything there, nor anything that cancels its task later. All else is as
in aiohttp's own ``start``, but that a client which has left before its turn is no error.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http import StreamWriter
from aiohttp.web_protocol import _PAYLOAD_ACCESS_ERROR, ERROR, _ErrInfo


class AnsweringHandler(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    async def start(self) -> None:
        """Answer what comes until the connection is closed, or is to be."""
        server = self._manager
        while server is not None and not self._force_close:
            if not self._messages:
                await self._next_message()
            is_kept = await self._answer_next(server)
            if not is_kept or self._close or self._force_close:
                break
            self._bound_pause()
            if self._messages:
                # Whoever sends many requests at once does not hold up all others.
                await asyncio.sleep(0)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _next_message(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _answer_next(self, server: web.Server) -> bool:
        """Answer the first request that waits; whether the connection is kept for another one."""
        message, body = self._messages.popleft()
        self._make_room()
        server.requests_count += 1
        handler = server.request_handler
        if isinstance(message, _ErrInfo):
            handler, message = self._make_error_handler(message), ERROR
        writer = StreamWriter(self, self._loop)
        # There is none only where the client has left.
        task: Any = self._task_handler or asyncio.current_task()
        request = server.request_factory(message, body, self, writer, task)
        began = self._loop.time() if self._logging_enabled else None
        try:
            try:
                response, is_lost = await self._handle_request(request, began, handler)
            except ConnectionError:
                return False
            if is_lost:
                return False
            self._keepalive = bool(response.keep_alive)
            if not body.is_eof():
                if not self._force_close:
                    await self._read_out(body)
                if not body.is_eof() and not self._force_close:
                    self.close()
            body.set_exception(_PAYLOAD_ACCESS_ERROR)
        except Exception as error:
            self.log_exception("Unhandled exception", exc_info=error)
            self.force_close()
        except BaseException:
            self.force_close()
            raise
        return self._keepalive

    def _make_room(self) -> None:
        """Let the parser go on where it waits until fewer requests do."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _read_out(self, body: StreamReader) -> None:
        """Take for a while what a client still sends of a body that nobody wants, so that it reads its answer."""
        ends_at = self._loop.time() + self._lingering_time
        try:
            while not body.is_eof() and self._loop.time() < ends_at:
                async with asyncio.timeout_at(ends_at):
                    await body.readany()
        except (asyncio.CancelledError, TimeoutError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    def _bound_pause(self) -> None:
        """Let the client be silent for so long until its next request."""
        closes_at = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = closes_at
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(closes_at, self._process_keepalive)
