"""The reader of one upstream stream: it belongs to the interaction, not to whoever listens.

It reads upstream to the end, assembles the steps, and commits the outcome before the terminal event is published
(promise P1). Events travel as the bytes upstream sent; only those that carry ids are written anew.

When upstream breaks off, what was received is committed, listeners get an ``error`` event and a feed that is marked
broken (contract 4.8), and upstream is asked how the interaction stands. A verdict is only spoken when upstream says
that it has no such interaction; when it cannot be asked, the row stays open for whoever asks next.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from service.errors import BadGateway, InvalidRequest, ServiceError
from service.interactions import outcomes
from service.interactions.calls import Job
from service.interactions.feed import Event, Feed
from service.interactions.inquiry import Gone, words
from service.interactions.media import MediaKeeper
from service.interactions.render import timestamp
from service.interactions.timeline import without_history
from service.store.records import USAGE_MISSING, Outcome, Usage, now
from service.store.store import Store
from service.upstream.client import GeminiClient, Reply, as_service_error
from service.upstream.transport import Response, TransportError
from service.wire import codec, ids, sse
from service.wire.assembler import TERMINAL_EVENTS, Assembler

logger = logging.getLogger(__name__)

_DONE: Final = b"[DONE]"
#: Seconds that upstream has to end its body after the terminal event, so that the connection can be used again.
_DRAIN: Final = 1.0
#: A stream that is larger is nobody's answer.
_LARGEST_STREAM: Final = 512 * 1024 * 1024


class Reader:
    """Reads one upstream stream to its end; owns the upstream response and the outcome."""

    def __init__(
        self,
        job: Job,
        response: Response,
        store: Store,
        client: GeminiClient,
        upstream_settle: float,
        media: MediaKeeper | None = None,
    ) -> None:
        self._job = job
        self._response = response
        # One iterator for reading and draining: one that is left half-way closes the connection.
        self._chunks = response.chunks()
        self._store = store
        self._client = client
        self._upstream_settle = upstream_settle
        self._media = media
        self._assembler = Assembler()
        self._text_id = ids.to_text(job.intent.id)
        self._noted: asyncio.Task[None] | None = None
        self._held: Event | None = None
        self.feed = Feed(job.intent.id, job.history)

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
        received = 0
        async for chunk in self._chunks:
            received += len(chunk)
            if received > _LARGEST_STREAM:
                raise _MalformedStream(f"Upstream sent more than {_LARGEST_STREAM} bytes.")
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
        body = _parsed(block, data)
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
        """The event under our ids, and without the deployment's key, which upstream's errors may quote."""
        interaction = body.get("interaction")
        if isinstance(interaction, dict):
            told = {**interaction, "id": self._text_id}
            if self._job.intent.previous_id is not None:
                told["previous_interaction_id"] = ids.to_text(self._job.intent.previous_id)
            return {**body, "interaction": told}
        if "interaction_id" in body:
            return {**body, "interaction_id": self._text_id}
        error = body.get("error")
        if isinstance(error, dict) and isinstance(message := error.get("message"), str):
            return {**body, "error": {**error, "message": self._job.told(message)}}
        return body

    async def _complete(self, last: Event) -> None:
        status = self._assembler.status or "completed"
        if not outcomes.is_terminal(status):
            status = TERMINAL_EVENTS.get(str(last.body.get("event_type")), "completed")
        result = {**self._assembler.result(), "status": status}
        error = outcomes.error_of(result)
        await self._commit(self._outcome(status, terminal=True, error=error), result)
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
        message = self._job.told(message)
        logger.warning("the stream of %s broke: %s", self._text_id, message)
        try:
            await self._settle(code, message)
        except ServiceError:
            logger.exception("the broken stream of %s could not be recorded", self._text_id)
        self._end_broken(code, message)

    def _end_broken(self, code: str, message: str) -> None:
        if self.feed.ended:
            return
        event = {"event_type": "error", "error": {"code": code, "message": message}}
        self.feed.publish(self._held or Event(sse.frame(event), event))
        # What upstream itself declared is an end like any other; a loss must not look like one.
        self.feed.end(broken=self._held is None)

    async def _settle(self, code: str, message: str) -> None:
        """Commit how the interaction stands: upstream's word, else what was received, under a verdict or still open."""
        upstream_id = self._assembler.upstream_id
        if upstream_id is None or not self._job.intent.upstream_stored:
            await self._fail(code, message)
            return
        try:
            deployment = self._job.route.deployment
            async for reply in words(self._client, deployment, upstream_id, self._upstream_settle):
                if await self._take(reply):
                    return
                self._end_broken(code, message)
        except Gone:
            await self._fail(code, message)

    async def _take(self, reply: Reply | None) -> bool:
        """Commit upstream's word, or what was received while there is none; whether there was one."""
        status = "in_progress" if reply is None else outcomes.status_of(reply.body)
        if reply is not None and outcomes.is_terminal(status):
            usage = outcomes.usage_of(reply.body)
            error = outcomes.error_of(reply.body)
            body = reply.body
            if self._job.history.source == "rebuilt":
                body = without_history(body, self._job.call.envelope.body)
            await self._commit(self._outcome(status, terminal=True, usage=usage, error=error), body)
        else:
            received = {**self._assembler.result(), "status": status}
            await self._commit(self._outcome(status, terminal=False), received)
        return reply is not None

    async def _fail(self, code: str, message: str) -> None:
        intent = self._job.intent
        failed = {
            "created": timestamp(intent.created_at),
            "updated": timestamp(now()),
            **self._assembler.result(),
            "status": "failed",
            "errors": [{"code": code, "message": message}],
        }
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
            if not self._noted.cancelled() and self._noted.exception() is not None:
                logger.info("the upstream id of %s is committed with its outcome only", self._text_id)
        body = codec.dumps(interaction)
        intent = self._job.intent
        media_due = None
        if self._media is not None and intent.store and outcome.completed_at is not None:
            media_due = self._media.due(self._job.call.raw, body)
        await self._store.finish(outcome, body, media_due=media_due)
        if self._media is not None and media_due is not None:
            self._media.keep(intent.id, intent.project_id)


def _parsed(block: bytes, data: bytes) -> dict[str, Any]:
    try:
        body = codec.loads(data)
    except InvalidRequest as error:
        raise _MalformedStream("Upstream sent an event that is not JSON.") from error
    if not isinstance(body, dict):
        raise _MalformedStream("Upstream broke off the stream with something that is not an event.")
    if "event_type" not in body:
        body["event_type"] = (sse.event_name(block) or b"error").decode("utf-8", "replace")
    return body


class _MalformedStream(Exception):
    """The stream ended or went on in a way that no interaction does."""
