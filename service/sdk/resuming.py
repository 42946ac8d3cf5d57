"""Reading a stream to its end through as many connections as that takes, each event once (contract 4.6).

A stream that breaks is opened again behind the last event that has an id, and what followed that event already is left
out. An ``error`` event without an id, before a break, is the service's farewell and no part of the interaction: it is
told only when the stream ends with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import ClientError, ClientResponse

from service.errors import BadGateway, InvalidRequest
from service.sdk.calls import Answer, Call, error_of, path_of
from service.sdk.engine import Engine
from service.sdk.errors import (
    ConnectionFailed,
    ConnectionLost,
    InvalidAnswer,
    RequestTimeout,
    StreamLost,
)
from service.sdk.events import ErrorEvent, StreamEvent, event_of
from service.wire import codec, sse
from service.wire.regenerate import events_of

#: Seconds of silence after which a connection counts as lost; a service breaks its silence every 15 s.
_SILENCE: Final = 60.0
#: Seconds for the service to open a stream again.
_OPENING: Final = 60.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_DONE: Final = b"[DONE]"
_ABORTED: Final = "the connection was closed before the end of the stream"
#: What is said of a place in the stream that is not known.
_UNKNOWN_PLACE: Final = 400
#: What the service says at the end of the time that a call allows, and the headers that allow one.
_OVER: Final = "deadline_exceeded"
_LIMITS: Final = frozenset({"x-timeout", "x-litellm-timeout"})
#: Refusals that time may mend.
_PASSING: Final = frozenset({408, 409, 425, 429})


class Resuming:
    """One stream; everything but :attr:`ready` belongs to the loop thread.

    No state is lost when a wait is cancelled: the next one goes on from there.
    """

    def __init__(self, engine: Engine, call: Call, opened: ClientResponse | Answer, patience: float) -> None:
        """Go on with what was opened; raises a :class:`StatusError` for an answer that is an error."""
        #: Events that have arrived and are to be taken from the left.
        self.ready: deque[StreamEvent] = deque()
        self.headers: Mapping[str, str] = opened.headers
        self.interaction_id = opened.headers.get("x-interaction-id")
        self.last_event_id: str | None = call.query.get("last_event_id")
        self._engine = engine
        self._call = call
        self._patience = patience
        self._response = None if isinstance(opened, Answer) else opened
        self._reading = asyncio.Lock()
        self._splitter = sse.Splitter()
        self._ended = False
        #: Events behind the last one with an id, and how many of them are still to be left out.
        self._behind = 0
        self._skip = 0
        self._farewell: ErrorEvent | None = None
        self._why = ""
        #: Since when nothing new has come though it was tried.
        self._broken_at: float | None = None
        self._pause = 0.0
        if isinstance(opened, Answer):
            # Upstream may ignore the wish to stream; the answer is told as events all the same.
            self.ready.extend(map(event_of, events_of(opened.json())))
            self._ended = True

    async def more(self) -> bool:
        """Wait until an event is ready; False at the end.

        Raises :class:`StreamLost`, or the :class:`StatusError` with which the service refuses to go on.
        """
        # A wait that was given up may not have noticed it yet when the next one begins.
        async with self._reading:
            while not self.ready and not self._ended:
                if self._response is None:
                    self._response = await self._again()
                else:
                    await self._read(self._response)
        return bool(self.ready)

    def close(self) -> None:
        """Read no further."""
        self._ended = True
        self._drop()

    async def _read(self, response: ClientResponse) -> None:
        try:
            async with asyncio.timeout(_SILENCE):
                chunk = await response.content.readany()
        except (ClientError, OSError) as error:
            # A timeout is an OSError too.
            self._broken(str(error) or type(error).__name__)
            return
        try:
            blocks = self._splitter.feed(chunk)
        except BadGateway as error:
            self.close()
            raise InvalidAnswer(error.message, interaction_id=self.interaction_id) from error
        for block in blocks:
            if self._response is not None:
                self._take(block)
        if not chunk and self._response is not None:
            self._broken(_ABORTED)

    def _take(self, block: bytes) -> None:
        data = sse.data_of(block)
        if data is None:
            return
        if data == _DONE:
            self._end()
            return
        body = _object(data)
        if body is None:
            # A line that was cut, or something in between that speaks another language.
            self._broken("what came is not an event")
            return
        body.setdefault("event_type", (sse.event_name(block) or b"error").decode("utf-8", "replace"))
        self._arrived(event_of(body))

    def _arrived(self, event: StreamEvent) -> None:
        if self._farewell is not None:
            held, self._farewell = self._farewell, None
            self._tell(held)
        if isinstance(event, ErrorEvent) and event.event_id is None:
            self._farewell = event
        else:
            self._tell(event)

    def _tell(self, event: StreamEvent) -> None:
        if self._skip:
            self._skip -= 1
            return
        self._broken_at, self._pause = None, 0.0
        if event.event_id is None:
            self._behind += 1
        else:
            self.last_event_id, self._behind = event.event_id, 0
        self.interaction_id = self.interaction_id or _id_in(event)
        self.ready.append(event)

    def _end(self) -> None:
        if self._farewell is not None:
            self._tell(self._farewell)
        self._ended = True
        if self._response is not None:
            self._response.release()
        self._response = None

    def _broken(self, why: str) -> None:
        self._why = why
        self._drop()

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    async def _again(self) -> ClientResponse | None:
        """The stream behind the last event; None to try once more."""
        loop = asyncio.get_running_loop()
        if self._broken_at is None:
            self._broken_at = loop.time()
        elif loop.time() - self._broken_at >= self._patience:
            # Whoever asks for another event all the same has another try.
            self._broken_at = None
            raise self._lost()
        if self.interaction_id is None:
            raise self._lost()
        if self._is_over():
            raise self._lost()
        await asyncio.sleep(self._pause)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        try:
            opened = await self._engine.open(self._resumption(self.interaction_id), repeat=False)
        except (ConnectionFailed, ConnectionLost, RequestTimeout) as error:
            self._why = error.message
            return None
        if isinstance(opened, Answer):
            self._judge(opened)
            return None
        self._splitter = sse.Splitter()
        self._skip, self._farewell = self._behind, None
        return opened

    def _is_over(self) -> bool:
        """Whether the service has ended the stream because the time that this call allows is over."""
        code = getattr(None if self._farewell is None else self._farewell.error, "code", None)
        return code == _OVER and any(name.lower() in _LIMITS for name in self._call.headers)

    def _judge(self, answer: Answer) -> None:
        if answer.status < 300:
            raise InvalidAnswer("The service answered a stream with something else.", status=answer.status)
        error = error_of(answer)
        if answer.status == _UNKNOWN_PLACE:
            # A service that was killed may have told an event that it had not stored yet.
            self._why = error.message
            raise self._lost() from error
        if answer.status < 500 and answer.status not in _PASSING:
            raise error
        self._why = error.message
        self._pause = max(self._pause, min(error.retry_after or 0.0, self._patience))

    def _resumption(self, interaction_id: str) -> Call:
        query = {"stream": "true"}
        if self.last_event_id is not None:
            query["last_event_id"] = self.last_event_id
        headers = {name: value for name, value in self._call.headers.items() if name != "Idempotency-Key"}
        return Call("GET", path_of(interaction_id), query=query, headers=headers, timeout=_OPENING)

    def _lost(self) -> StreamLost:
        # What is in an event may be of any type.
        farewell = None if self._farewell is None else self._farewell.error
        why = self._why if farewell is None else getattr(farewell, "message", farewell)
        code = getattr(farewell, "code", None)
        return StreamLost(
            f"The stream was lost and could not be taken up again: {why}",
            code=None if code is None else str(code),
            interaction_id=self.interaction_id,
        )


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        body = codec.loads(data)
    except InvalidRequest:
        return None
    return body if isinstance(body, dict) else None


def _id_in(event: StreamEvent) -> str | None:
    interaction = getattr(event, "interaction", None)
    found = getattr(interaction, "id", None) or getattr(event, "interaction_id", None)
    return found if isinstance(found, str) else None
