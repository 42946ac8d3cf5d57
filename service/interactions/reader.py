"""The reader of one interaction's stream: it belongs to the interaction, not to whoever listens.

It reads upstream to the end, through as many streams as that takes, assembles the steps, and commits the outcome with
the rest of the event log before the terminal event is published (promise P1). Events travel as the bytes upstream sent;
only those that carry ids are written anew, and all get our event id.

When a stream breaks the listeners' stream goes on: upstream is taken up again behind its last event, or asked until it
has ended, and what is missing is told then. Only what upstream has lost, or was never asked to keep, ends in a verdict:
what was received is kept as ``failed``, and listeners get an ``error`` event and a feed that is marked broken (contract
4.8). When upstream cannot be asked, or the process stops, the row stays open for whoever goes on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Literal

from service.errors import ApiError, ServiceError, Superseded
from service.interactions import breaks, outcomes
from service.interactions.arriving import MalformedStream, UnreadableEvent
from service.interactions.calls import Job
from service.interactions.closing import Closing
from service.interactions.conclusion import Conclusion, Last
from service.interactions.feed import Feed
from service.interactions.inquiry import Gone
from service.interactions.intake import Intake
from service.interactions.log import EventLog, StreamLog
from service.interactions.media import MediaKeeper
from service.interactions.publisher import Publisher, Told
from service.interactions.recovery import Recovery
from service.store.store import Store
from service.upstream.client import GeminiClient, Reply, is_interaction
from service.upstream.connection import Flow, TransportError
from service.upstream.response import Response
from service.wire import ids, sse, upstream_errors

logger = logging.getLogger(__name__)

#: Seconds that upstream has to end its body after the terminal event, so that the connection can be used again.
_DRAIN: Final = 1.0


class Reader:
    """Reads one interaction to its end; owns the upstream response and the outcome."""

    __slots__ = (
        "_client",
        "_closing",
        "_conclusion",
        "_continues",
        "_dropped",
        "_ending",
        "_failed",
        "_intake",
        "_job",
        "_log",
        "_opened_at",
        "_publisher",
        "_response",
        "_task",
        "_text_id",
        "_told_cancelled",
        "_upstream_settle",
        "_wish",
        "cancelling",
        "ends_at",
        "feed",
        "job",
        "left_open",
    )

    def __init__(
        self,
        job: Job,
        store: Store,
        client: GeminiClient,
        events: EventLog,
        upstream_settle: float,
        media: MediaKeeper | None = None,
        *,
        told: Told | None = None,
    ) -> None:
        """Go on behind what was ``told`` before. Nothing runs and nothing is held until :meth:`take`."""
        told = told or Told()
        self.job = self._job = job
        #: Whether the interaction goes on though this reader has stopped.
        self.left_open = True
        #: Whether somebody has asked for its end: a stream that breaks then is no failure of its deployment's.
        self.cancelling = False
        #: Whether it goes on where another reader has stopped.
        self._continues = told.upstream_id is not None
        #: When the interaction is given up; of the loop's clock.
        self.ends_at: float | None = None
        self._response: Response
        self._client = client
        self._upstream_settle = upstream_settle
        self._text_id = ids.to_text(job.intent.id)
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._dropped = self._failed = False
        self._wish: Literal["cancel", "give up"] | None = None
        self._told_cancelled: dict[str, Any] | None = None
        self._opened_at = 0.0
        self.feed = Feed(
            job.intent.id,
            job.history,
            job.served,
            seq=told.seq,
            upstream_id=told.upstream_id,
            # Whoever has seen a background run begin may leave: it is not to be lost any more.
            held=job.intent.background and not self._continues,
            continues=self._continues,
        )
        self._log: StreamLog = events.open(job.intent.id)
        self._publisher = Publisher(job, self.feed, self._log, told)
        self._closing = Closing(job, client, self.feed, self._publisher)
        self._conclusion = Conclusion(
            job,
            store,
            client,
            media,
            self.feed,
            self._log,
            self._publisher,
            continues=self._continues,
        )
        self._intake = Intake(
            job,
            self.feed,
            self._log,
            self._publisher,
            self._closing,
            self._conclusion,
            told,
            continues=self._continues,
        )

    def take(self, response: Response, patience: float | None = None) -> Reader:
        """Own the stream that is to be read; after ``patience`` seconds the interaction is given up."""
        self._response = response
        self.ends_at = None if patience is None else asyncio.get_running_loop().time() + patience
        self._conclusion.http_status = response.status
        # Another deployment than was meant may have served it, and been given the conversation in another way.
        self.feed.history, self.feed.served = self._job.history, self._job.served
        return self

    async def run(self) -> None:
        """Read, publish, commit; never raises for what upstream or a listener does."""
        self._task = asyncio.current_task()
        self._opened_at = asyncio.get_running_loop().time()
        timer = None
        if self.ends_at is not None:
            timer = asyncio.get_running_loop().call_at(self.ends_at, self._end_as, "give up")
        try:
            await self._until_cancelled()
        except asyncio.CancelledError:
            if not self._dropped:
                self._conclusion.begin_owed()
                self._log.leave()
            raise
        except Superseded as error:
            logger.warning("the stream of %s was taken over by another process", self._text_id)
            self._log.discard()
            self._say_farewell(error.code, error.message)
        except ServiceError as error:
            # What happened is with the writer, or the row stays open; listeners must not take this for an end.
            logger.exception("the stream of %s could not be recorded", self._text_id)
            self._fail(error)
        except Exception:
            logger.exception("the reader of %s failed in a way that was not foreseen", self._text_id)
            self._fail(ApiError())
        finally:
            if timer is not None:
                timer.cancel()
            self.close()
            if not self.feed.ended:
                self.feed.end(broken=True)
        if self._failed:
            # Whoever goes on begins where the log ends.
            await self._log.left()

    def cancel(self, told: dict[str, Any] | None = None) -> None:
        """End the interaction as cancelled, unless it is ending anyway; ``told`` is upstream's word on that."""
        self._told_cancelled = told
        self._end_as("cancel")

    def close(self) -> None:
        """Give back what it was to read: it is never to run."""
        self._response.close()
        self._job.end()

    def let_go(self) -> None:
        """Another process holds the interaction: nothing more is written of it here, and the task is to be stopped."""
        self._dropped = True
        self._log.discard()

    async def settled(self) -> None:
        """Wait until nothing of its log is being written."""
        await self._log.settled()

    @property
    def is_ending(self) -> bool:
        """Whether it is ending already, or was asked to."""
        return self._ending or self._wish is not None

    @property
    def is_concluding(self) -> bool:
        """Whether it has read to the end and commits that, which only the process that holds the interaction can."""
        return self._ending

    async def _as_wished(self) -> Last:
        if self._wish == "cancel":
            last = await self._closing.cancelled(self._told_cancelled)
        else:
            last = await self._closing.given_up()
        self._response.close()
        return last

    def _fail(self, error: ServiceError) -> None:
        self._ending = True
        self._failed = not self._dropped
        if self._failed:
            self._conclusion.begin_owed()
        self._say_farewell(error.code, error.message)

    def _end_as(self, wish: Literal["cancel", "give up"]) -> None:
        if self._task is not None and not self.is_ending:
            self._wish = wish
            self._task.cancel()

    async def _until_cancelled(self) -> None:
        try:
            last = await self._through()
        except asyncio.CancelledError:
            if self._wish is None or self._task is None or self._task.uncancel():
                raise
            self._ending = True
            last = self._intake.last
            if last is None:
                # Nothing that ends it has arrived meanwhile.
                last = await self._as_wished()
        self._ending = True
        if last is not None:
            await self._conclusion.complete(last)
            self.left_open = False
            await self._drain()

    async def _through(self) -> Last | None:
        """Read to the end of the interaction; None when that stays open."""
        try:
            return await self._read(self._response, again=self.feed.seq > 0)
        except _TROUBLE as error:
            self._note_break(error)
            return await self._recover(error)

    def _note_break(self, error: Exception) -> None:
        """Let the deployment's health know, unless the break says nothing about it."""
        lasted = asyncio.get_running_loop().time() - self._opened_at
        told = self._publisher.assembler.error if self._intake.withheld else None
        if not self.cancelling and breaks.is_failure(error, lasted, told):
            self._job.broke()

    async def _read(self, response: Response, *, again: bool = False) -> Last:
        """Publish the events of one stream up to the terminal one, which is returned unpublished."""
        intake = self._intake
        intake.begin(again=again)
        while (flow := await response.pump(intake.consume)) is Flow.HOLD:
            await self._log.room()
        if flow is not Flow.ENOUGH:
            intake.end()
        return intake.last if intake.last is not None else self._by_rest(intake.rest())

    def _by_rest(self, rest: Any) -> Last:
        """The end by an interaction that came in place of its events; raises :class:`MalformedStream` for all else."""
        told = self._publisher.assembler
        if is_interaction(rest) and not told.begun:
            self.feed.upstream_id = outcomes.upstream_id_of(rest) or self.feed.upstream_id
            if outcomes.is_terminal(outcomes.status_of(rest)):
                return self._closing.by_word(rest)
            # Upstream is asked until it has ended, by whoever is there then.
            self._conclusion.begin()
        if (error := upstream_errors.said_in(rest)) is not None:
            code, message = error
            raise MalformedStream(f"Upstream broke off the stream and said {code}: {message}")
        raise MalformedStream("Upstream ended the stream before the interaction was complete.")

    async def _recover(self, error: Exception) -> Last | None:
        """Find what came after a break, and tell it; None when upstream cannot be asked."""
        upstream_id = self.feed.upstream_id
        if upstream_id is None or not self._job.intent.upstream_stored or isinstance(error, UnreadableEvent):
            return self._closing.lost(error, self._intake.withheld.errors)
        logger.info("the stream of %s broke, and is taken up again: %s", self._text_id, error)
        recovery = Recovery(
            self._client,
            self._job.route.deployment,
            upstream_id,
            settle=self._upstream_settle,
        )
        while True:
            self._response.close()
            try:
                found = await recovery.next(self._publisher.cursor)
            except Gone:
                return self._closing.lost(error, self._intake.withheld.errors)
            except ServiceError as unknown:
                await self._leave_open(unknown)
                return None
            if isinstance(found, Reply):
                return self._closing.by_word(found.body)
            self._response = found
            self._intake.resumed = True
            try:
                return await self._read(found, again=True)
            except UnreadableEvent as unreadable:
                return self._closing.lost(unreadable, self._intake.withheld.errors)
            except _TROUBLE as cut:
                error = cut

    async def _leave_open(self, error: ServiceError) -> None:
        """Upstream may still have it: what came is kept, and whoever goes on finds the row and its log."""
        self._ending = True
        logger.warning("the stream of %s is left open: %s", self._text_id, error.message)
        await self._conclusion.leave_open()
        self._say_farewell(error.code, self._job.told(error.message))

    def _say_farewell(self, code: str, message: str) -> None:
        """Tell who listens now; no part of the interaction, whose next event is still to come."""
        if not self.feed.ended:
            error = {"event_type": "error", "error": {"code": code, "message": message}}
            self.feed.farewell = sse.frame(error)
            self.feed.end(broken=True)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN):
                while await self._response.chunk():
                    pass
        except (TransportError, TimeoutError):
            pass


_TROUBLE: Final = (TransportError, ServiceError, MalformedStream)
