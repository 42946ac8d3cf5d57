"""Streams: a reader that belongs to the interaction, and the feed it publishes to.

The reader reads upstream to the end whoever is listening, assembles the steps, and commits the outcome before the
terminal event is published (promise P1). Events travel as the bytes upstream sent; only those that carry ids are
written anew. A listener follows the feed at its own pace: it holds a position, not a queue, so one that is slow costs
nobody anything.

When upstream breaks off, it is asked once how the interaction stands; what it says is committed, what was received is
kept, and listeners get an ``error`` event and a feed that is marked broken (contract 4.8).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from service.errors import BadGateway, InvalidRequest, ServiceError
from service.interactions import outcomes
from service.interactions.calls import Job
from service.store.records import USAGE_MISSING, Outcome, Usage, now
from service.store.store import Store
from service.upstream.client import GeminiClient, as_service_error
from service.upstream.transport import Response, TransportError
from service.wire import codec, ids, sse
from service.wire.assembler import Assembler

logger = logging.getLogger(__name__)

_DONE: Final = b"[DONE]"
#: Seconds that upstream has to end its body after the terminal event, so that the connection can be used again.
_DRAIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Event:
    """One event under our ids: as bytes ready to send, and as what they say."""

    frame: bytes
    body: dict[str, Any]


class Feed:
    """The events of one interaction while it runs; any number of listeners, each at its own position."""

    def __init__(self, key: bytes, upstream_id: str | None = None) -> None:
        self.key = key
        self.upstream_id = upstream_id
        #: Set when the stream was lost: listeners must abort, not end politely.
        self.broken = False
        #: The terminal event and the whole interaction's steps, once they are known.
        self.last: Event | None = None
        self.steps: list[dict[str, Any]] = []
        self._events: list[Event] = []
        self.ended = False
        self._news: asyncio.Future[None] | None = None

    def publish(self, event: Event) -> None:
        """Hand an event to all listeners."""
        self._events.append(event)
        self._wake()

    def end(self, *, broken: bool = False) -> None:
        """No more events."""
        self.broken = self.broken or broken
        self.ended = True
        self._wake()

    async def batches(self, idle: float) -> AsyncIterator[list[Event]]:
        """All events from the first one on, as they come; an empty batch after ``idle`` seconds of silence."""
        position = 0
        while True:
            if position < len(self._events):
                batch = self._events[position:]
                position += len(batch)
                yield batch
            elif self.ended:
                return
            elif not await self._changed(idle):
                yield []

    async def _changed(self, idle: float) -> bool:
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._news,), timeout=idle)
        return bool(done)

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set_result(None)
            self._news = None


class Reader:
    """Reads one upstream stream to its end; owns the upstream response and the outcome."""

    def __init__(self, job: Job, response: Response, store: Store, client: GeminiClient) -> None:
        self._job = job
        self._response = response
        # One iterator for reading and draining: one that is left half-way closes the connection.
        self._chunks = response.chunks()
        self._store = store
        self._client = client
        self._assembler = Assembler()
        self._text_id = ids.to_text(job.intent.id)
        self._noted: asyncio.Task[None] | None = None
        self._held: Event | None = None
        self.feed = Feed(job.intent.id)

    async def run(self) -> None:
        """Read, publish, commit; never raises for what upstream or a listener does."""
        try:
            last = await self._read()
            await self._complete(last)
        except (TransportError, ServiceError, _MalformedStream) as error:
            await self._break(error)
        finally:
            self._response.close()
            if not self.feed.ended:
                self.feed.end(broken=True)

    async def _read(self) -> Event:
        """Publish events up to the terminal one, which is returned unpublished.

        An ``error`` event is held back until it is known whether the interaction goes on after it.
        """
        splitter = sse.Splitter()
        async for chunk in self._chunks:
            for block in splitter.feed(chunk):
                event = self._event(block)
                if event is None:
                    continue
                if self._held is not None:
                    self.feed.publish(self._held)
                    self._held = None
                if self._assembler.terminal:
                    return event
                if event.body.get("event_type") == "error":
                    self._held = event
                else:
                    self.feed.publish(event)
        raise _MalformedStream("Upstream ended the stream before the interaction was complete.")

    def _event(self, block: bytes) -> Event | None:
        data = sse.data_of(block)
        if data is None or data == _DONE:
            return None
        try:
            body = codec.loads(data)
        except InvalidRequest as error:
            raise _MalformedStream("Upstream sent an event that is not JSON.") from error
        if not isinstance(body, dict):
            raise _MalformedStream("Upstream broke off the stream with something that is not an event.")
        if "event_type" not in body:
            body["event_type"] = (sse.event_name(block) or b"error").decode("utf-8", "replace")
        self._assembler.feed(body)
        if self._job.first_byte_at is None:
            self._job.first_byte_at = now()
        if self._noted is None and self._assembler.upstream_id is not None:
            self._note_upstream_id(self._assembler.upstream_id)
        translated = self._translated(body)
        if translated is body and sse.event_name(block) is not None and b"event_type" in data:
            return Event(block + b"\n\n", body)
        return Event(sse.frame(translated), translated)

    def _note_upstream_id(self, upstream_id: str) -> None:
        """Commit the id as soon as it is known: whoever takes over after a crash asks upstream by it."""
        self.feed.upstream_id = upstream_id
        outcome = self._outcome("in_progress", terminal=False)
        self._noted = asyncio.get_running_loop().create_task(self._store.finish(outcome, None))

    def _translated(self, body: dict[str, Any]) -> dict[str, Any]:
        interaction = body.get("interaction")
        if isinstance(interaction, dict):
            told = {**interaction, "id": self._text_id}
            if self._job.intent.previous_id is not None:
                told["previous_interaction_id"] = ids.to_text(self._job.intent.previous_id)
            return {**body, "interaction": told}
        if "interaction_id" in body:
            return {**body, "interaction_id": self._text_id}
        return body

    async def _complete(self, last: Event) -> None:
        status = self._assembler.status or "completed"
        result = self._assembler.result()
        await self._commit(self._outcome(status, terminal=True), result)
        self.feed.last, self.feed.steps = last, result["steps"]
        self.feed.publish(last)
        self.feed.end()
        await self._drain()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN):
                async for _ in self._chunks:
                    pass
        except (TransportError, TimeoutError):
            pass

    async def _break(self, error: Exception) -> None:
        failure = as_service_error(error) if isinstance(error, TransportError) else error
        code, message = getattr(failure, "code", BadGateway.code), str(failure)
        if self._held is not None and (told := self._assembler.error) is not None:
            code, message = str(told.get("code", "api_error")), str(told.get("message", message))
        logger.warning("the stream of %s broke: %s", self._text_id, message)
        try:
            await self._settle(code, message)
        except ServiceError:
            logger.exception("the broken stream of %s could not be recorded", self._text_id)
        event = {"event_type": "error", "error": {"code": code, "message": message}}
        self.feed.publish(self._held or Event(sse.frame(event), event))
        # What upstream itself declared is an end like any other; a loss must not look like one.
        self.feed.end(broken=self._held is None)

    async def _settle(self, code: str, message: str) -> None:
        """Commit how the interaction stands after its stream was lost: upstream's word, else what was received."""
        upstream_id, deployment = self._assembler.upstream_id, self._job.route.deployment
        if upstream_id is not None and self._job.intent.upstream_stored:
            try:
                reply = await self._client.get(deployment, upstream_id)
            except ServiceError as error:
                logger.info("upstream could not tell how a broken stream ended: %s", error)
            else:
                status = outcomes.status_of(reply.body)
                terminal = outcomes.is_terminal(status)
                usage = outcomes.usage_of(reply.body) if terminal else None
                await self._commit(self._outcome(status, terminal=terminal, usage=usage), reply.body)
                return
        failed = {**self._assembler.result(), "status": "failed"}
        failed["errors"] = [{"code": code, "message": message}]
        await self._commit(self._outcome("failed", terminal=True, error=(code, message)), failed)

    def _outcome(
        self,
        status: str,
        *,
        terminal: bool,
        usage: Usage | None = None,
        error: tuple[str, str] | None = None,
    ) -> Outcome:
        if usage is None and terminal:
            known = self._assembler.usage
            usage = outcomes.usage_of({"usage": known}) if known else Usage(USAGE_MISSING)
        return self._job.outcome(
            status=status,
            http_status=self._response.status,
            terminal=terminal,
            interaction=self._assembler.interaction,
            usage=usage,
            upstream_id=self._assembler.upstream_id,
            error=error,
        )

    async def _commit(self, outcome: Outcome, interaction: dict[str, Any]) -> None:
        if self._noted is not None:
            await asyncio.wait((self._noted,))
        await self._store.finish(outcome, codec.dumps(interaction))


class Readers:
    """The readers of this process; they outlive the connections that started them."""

    def __init__(self) -> None:
        self._running: dict[bytes, tuple[Reader, asyncio.Task[None]]] = {}

    def start(self, reader: Reader) -> Feed:
        """Let a reader run; it is forgotten when it is through."""
        key = reader.feed.key
        task = asyncio.get_running_loop().create_task(reader.run(), name="reader")
        self._running[key] = (reader, task)
        task.add_done_callback(lambda done: self._ended(key, done))
        return reader.feed

    def feed(self, key: bytes) -> Feed | None:
        """The feed of an interaction that is being read here."""
        running = self._running.get(key)
        return None if running is None else running[0].feed

    async def close(self, patience: float) -> None:
        """Give the readers ``patience`` seconds to finish, then stop the rest; their rows stay open."""
        tasks = [task for _, task in self._running.values()]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=patience)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _ended(self, key: bytes, task: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a reader failed", exc_info=error)


class _MalformedStream(Exception):
    """The stream ended or went on in a way that no interaction does."""
