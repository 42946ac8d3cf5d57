"""How an interaction that is read comes to its end: outcome and the last of the log in one transaction, then the word.

The terminal event is published when that transaction is committed and not before (promise P1).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from service.errors import ServiceError, ServiceUnavailable
from service.interactions import outcomes
from service.interactions.arriving import Arrived
from service.interactions.calls import Job
from service.interactions.feed import Feed
from service.interactions.inquiry import Gone, ask
from service.interactions.log import StreamLog
from service.interactions.media import MediaKeeper
from service.interactions.publisher import Publisher
from service.store import kept_events
from service.store.entries import Write
from service.store.records import Outcome
from service.store.store import Store
from service.store.writer import NotQueued
from service.upstream.client import GeminiClient
from service.wire import codec, ids

logger = logging.getLogger(__name__)

#: Seconds that upstream has to tell the usage that its terminal event lacked.
_USAGE: Final = 5.0
#: Seconds until upstream's id is handed again to a writer that has not told that it is durable.
_AGAIN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Last:
    """The event that ends an interaction, not published yet, and the whole that it ends."""

    event: Arrived
    whole: dict[str, Any]
    broken: bool = False
    #: Whether upstream had not ended it, so that what it had used is not all there was.
    cut: bool = False
    #: What is to be told before it, of which nothing was told yet.
    before: tuple[Arrived, ...] = ()
    #: Whether upstream's stream has not told the end itself, so that these events take the place of its own.
    made_here: bool = False


class Conclusion:
    """Commits how one interaction stands, as its reader knows it."""

    __slots__ = (
        "_client",
        "_concluding",
        "_continues",
        "_feed",
        "_job",
        "_log",
        "_media",
        "_noting",
        "_owed",
        "_publisher",
        "_store",
        "http_status",
    )

    def __init__(
        self,
        job: Job,
        store: Store,
        client: GeminiClient,
        media: MediaKeeper | None,
        feed: Feed,
        log: StreamLog,
        publisher: Publisher,
        *,
        continues: bool,
    ) -> None:
        """``continues`` says that another reader may have told events that are not in the log."""
        self._continues = continues
        self._job = job
        self._store = store
        self._client = client
        self._media = media
        self._feed = feed
        self._log = log
        self._publisher = publisher
        #: The status of upstream's answer.
        self.http_status = 200
        self._noting: asyncio.Task[None] | None = None
        self._concluding = False
        #: Whether upstream's id is known and has not been handed to the writer.
        self._owed = False

    def begin_soon(self) -> None:
        """The same as :meth:`begin`, when the listeners have been told what there is.

        Where they are told nothing before that is durable, at once.
        """
        self._owed = True
        if self._feed.held:
            self.begin_owed()
        else:
            asyncio.get_running_loop().call_soon(self.begin_owed)

    def begin_owed(self) -> None:
        """The same, if it was to be done soon and has not been, and no outcome tells upstream's id instead."""
        if self._owed and not self._concluding:
            self.begin()

    def begin(self) -> None:
        """Commit upstream's id as soon as it is known: whoever takes over after a crash asks by it.

        A feed that is held is released when that is durable, and not before.
        """
        self._owed = False
        if self._feed.upstream_id is None:
            return

        def write(log: list[Write]) -> asyncio.Task[None]:
            outcome = self._outcome("in_progress", terminal=False)
            task = asyncio.get_running_loop().create_task(self._store.finish(outcome, None, log=log))
            task.add_done_callback(self._begun)
            return task

        self._log.begin(write)

    def _begun(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._feed.release()
        elif isinstance(error, NotQueued) or (isinstance(error, ServiceUnavailable) and self._feed.held):
            # Where only patience has ended the write goes on, and the next one is behind it.
            asyncio.get_running_loop().call_later(_AGAIN, self._begin_again)

    def _begin_again(self) -> None:
        if not self._concluding and not self._feed.ended:
            self.begin()

    async def complete(self, last: Last) -> None:
        """Commit the outcome with the last of the log, then publish the event that ends it."""
        # As long as that takes, upstream's id must not be missing.
        arrived, whole, is_whole = await self._with_usage(last.event, last.whole)
        self._concluding = True
        status = outcomes.status_of(whole)
        # What the reader before this one told may be lost, and is told again as upstream's stream goes on, or never.
        apart = last.made_here and self._continues
        distance = kept_events.DISTANCE if apart else 1
        told = self._publisher.numbered([*last.before, arrived], distance, lost=last.broken)
        await self._log.settled()
        error = outcomes.error_of(whole)
        outcome = self._outcome(status, terminal=True, error=error, body=whole, cut=last.cut or not is_whole)
        if apart:
            self._log.part()
        for event in told:
            self._log.append(*event, arrived.cursor)
        # A listener that is behind may find the events in the log before they are published here.
        self._feed.steps = outcomes.steps_of(whole)
        await self._commit(outcome, whole)
        self._job.spent(outcome.usage)
        self._job.end()
        for event in told:
            self._feed.publish(*event)
        self._feed.end(broken=last.broken)

    async def leave_open(self) -> None:
        """Commit what came so far: somebody else goes on from there."""
        self._concluding = True
        received = {**self._publisher.assembler.result(), "status": "in_progress"}
        await self._log.settled()
        outcome = self._outcome("in_progress", terminal=False)
        await self._store.finish(outcome, codec.dumps(received), log=self._log.rest())

    def note_status(self, status: str) -> None:
        """Commit that the run goes on, so that whoever asks is told so."""
        self._noting = asyncio.get_running_loop().create_task(self._note(status))

    async def _note(self, status: str) -> None:
        intent = self._job.intent
        try:
            await self._store.note_status(intent.id, status, intent.owner_id)
        except ServiceError as error:
            logger.warning("the status of %s could not be noted: %s", ids.to_text(intent.id), error)

    async def _with_usage(
        self, event: Arrived, whole: dict[str, Any]
    ) -> tuple[Arrived, dict[str, Any], bool]:
        """Event and whole with the usage, and whether that is all of it: what the end lacks is asked for once.

        What earlier events told is what had been used until then (contract 8): it is all there is of what upstream has
        not kept, and otherwise nothing as long as upstream may say more.
        """
        interaction = event.body.get("interaction")
        if not isinstance(interaction, dict) or interaction.get("usage"):
            return event, whole, True
        upstream_id, usage, is_whole = self._feed.upstream_id, whole.get("usage"), False
        status = outcomes.status_of(whole)
        # What had been used until then is all that was to be used by what was cancelled.
        is_over = bool(usage) and status == outcomes.CANCELLED
        if upstream_id is not None and self._job.intent.upstream_stored and not is_over:
            usage, is_whole = await self._asked_usage(upstream_id, status), True
        whole = {name: value for name, value in whole.items() if name != "usage"}
        if not usage:
            return event, whole, True
        body = {**event.body, "interaction": {**interaction, "usage": usage}}
        return Arrived(body, None, event.cursor), {**whole, "usage": usage}, is_whole

    async def _asked_usage(self, upstream_id: str, status: str) -> Any:
        """The usage as upstream's own copy has it once that has ended; None where it does not tell."""
        try:
            async with asyncio.timeout(_USAGE):
                reply = await ask(self._client, self._job.route.deployment, upstream_id)
        except (Gone, TimeoutError):
            return None
        return None if reply is None else outcomes.ended_usage(reply.body, status)

    def _outcome(
        self,
        status: str,
        *,
        terminal: bool,
        error: tuple[str, str] | None = None,
        body: dict[str, Any] | None = None,
        cut: bool = False,
    ) -> Outcome:
        usage = outcomes.usage_of(body or {}, cut=cut) if terminal else None
        return self._job.outcome(
            status=status,
            http_status=self.http_status,
            terminal=terminal,
            interaction=body or self._publisher.assembler.interaction,
            usage=usage,
            upstream_id=self._feed.upstream_id,
            error=error,
        )

    async def _commit(self, outcome: Outcome, interaction: dict[str, Any]) -> None:
        body = codec.dumps(interaction)
        intent = self._job.intent
        media_due = None
        if self._media is not None and intent.store:
            media_due = self._media.due(self._job.call.raw, body)
        await self._store.finish(outcome, body, media_due=media_due, log=self._log.rest())
        if self._media is not None and media_due is not None:
            self._media.keep(intent.id, intent.project_id)
