"""Streams on the wire: headers that no proxy buffers, keep-alives, an end that cannot be mistaken (contract 4.8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import web

from service.api import unchunked
from service.api.endpoint import response_headers
from service.api.keys import KEEP_ALIVE
from service.api.stream_client import StreamClient
from service.api.telling import Teller, teller_for
from service.errors import DeadlineExceeded, ServiceError
from service.interactions.listening import Listening
from service.store.kept_events import Event
from service.wire import ids, sse
from service.wire.revision import Revision

logger = logging.getLogger(__name__)

_STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
_OVER: Final = (
    "The time that this stream may take is over. The interaction goes on: GET it with 'stream=true'."
)


def _word(code: str, message: str) -> bytes:
    """What a listener is told whose stream is broken off here: no event of the interaction."""
    return sse.frame({"event_type": "error", "error": {"code": code, "message": message}})


_TIME_IS_OVER: Final = _word(DeadlineExceeded.code, _OVER)


async def send_events(
    request: web.Request,
    listening: Listening,
    revision: Revision,
    more_headers: Mapping[str, str] = MappingProxyType({}),
    *,
    limit: float | None = None,
) -> web.StreamResponse:
    """Follow an interaction to its end; a client that leaves, or stops reading, ends only this.

    After ``limit`` seconds the client is told that its time is over, and the interaction goes on without it.

    Raises :class:`~service.errors.InvalidRequest`, before anything is sent, when a legacy client's cursor is no part
    of an event.
    """
    teller = teller_for(listening, revision)
    response = _EventStream()
    client = StreamClient(request, response, teller)
    idle = request.app[KEEP_ALIVE]
    batches = listening.events(whole=teller.needs_all, idle=idle, sink=client.once_open)
    ends_at = None if limit is None else asyncio.get_running_loop().time() + limit
    data = await _beginning_until(ends_at, listening, batches, teller)
    await _open(request, response, listening, more_headers, at_once=not data)
    client.open()
    try:
        await client.write(data)
        # It would be held as long as the stream is open.
        del data
        await _tell(client, listening, _follow(client, batches, idle), ends_at)
    except (ConnectionError, TimeoutError):
        client.give_up()
    except Exception:
        # An answer that says so would be told in the middle of this one.
        logger.exception("a listener of %s failed in a way that was not foreseen", ids.to_text(listening.key))
        client.give_up()
    return response


class _EventStream(web.StreamResponse):
    """aiohttp writes its head together with the first piece of its body: one packet and one system call less."""

    _send_headers_immediately = False


async def _beginning_until(
    ends_at: float | None, listening: Listening, batches: AsyncIterator[list[Event]], teller: Teller
) -> bytes:
    """The same, if it comes in time; raises :class:`DeadlineExceeded` otherwise."""
    if ends_at is None:
        return await _beginning(listening, batches, teller)
    try:
        async with asyncio.timeout_at(ends_at):
            return await _beginning(listening, batches, teller)
    except TimeoutError:
        error = DeadlineExceeded(_OVER)
        error.interaction_id = ids.to_text(listening.key)
        raise error from None


async def _beginning(listening: Listening, batches: AsyncIterator[list[Event]], teller: Teller) -> bytes:
    """What is told before the headers can be sent: they tell upstream's id, and a cursor may yet be refused."""
    first = await _first(batches)
    if not first and listening.upstream_id is None:
        first = await _first(batches)
    data = teller.tell(first)
    while not teller.found and first:
        first = await _first(batches)
        data += teller.tell(first)
    return data


async def _first(batches: AsyncIterator[list[Event]]) -> list[Event]:
    nothing: list[Event] = []
    return await anext(batches, nothing)


async def _tell(
    client: StreamClient, listening: Listening, following: Coroutine[None, None, None], ends_at: float | None
) -> None:
    try:
        if ends_at is not None and not await _in_time(ends_at, following):
            await client.break_off(_TIME_IS_OVER if client.whole else b"")
            return
        if ends_at is None:
            await following
    except ServiceError as error:
        # Deleted meanwhile, or the log cannot be read: the answer has begun, so it can only be broken off.
        logger.info("a listener of %s was broken off: %s", ids.to_text(listening.key), error)
        await client.break_off(_word(error.code, error.message) if client.whole else b"")
        return
    if listening.broken:
        await client.break_off(listening.farewell)
    else:
        await client.end()


async def _follow(client: StreamClient, batches: AsyncIterator[list[Event]], idle: float) -> None:
    async for batch in batches:
        await client.write_batch(batch)
        if not batch or client.silent_for(idle):
            client.keep_alive()


async def _in_time(ends_at: float, following: Coroutine[None, None, None]) -> bool:
    """Follow to the end if that comes in time; whether it did."""
    patience = asyncio.timeout_at(ends_at)
    try:
        async with patience:
            await following
    except TimeoutError:
        if patience.expired():
            return False
        raise
    return True


async def _open(
    request: web.Request,
    response: web.StreamResponse,
    listening: Listening,
    more_headers: Mapping[str, str],
    *,
    at_once: bool,
) -> None:
    """Begin the answer; its head leaves with the first piece of its body, or ``at_once``."""
    headers = response_headers(
        request,
        ids.to_text(listening.key),
        listening.upstream_id,
        listening.history,
        listening.served,
        replayed=listening.replayed,
        deployment=listening.deployment,
    )
    response.headers.update({**headers, **_STREAM_HEADERS, **more_headers})
    await unchunked.begin(request, response)
    if at_once:
        request.writer.send_headers()
