"""One create: resolve, choose, commit the intent, call upstream, commit the outcome, answer.

What happens when the process dies: before the intent is committed, nothing was sent; after it, the row stays
``in_progress`` without an outcome, and another process takes it over, which finds it by that; after the outcome is
committed, the answer can be read back. A client that leaves changes nothing: the handler runs on. Nor does one whose
answer is late: it is told so, and the answer is waited for (:mod:`service.interactions.overdue`). When the outcome
cannot be committed, the client gets an error and never the answer (promise P1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from service.errors import BadGateway, DeadlineExceeded, NotFound, ServiceError
from service.interactions import outcomes
from service.interactions.ahead import Ahead
from service.interactions.calls import Answer, Call, Job
from service.interactions.cancellations import Cancellations
from service.interactions.feed import Feed
from service.interactions.idempotency import frees_key
from service.interactions.life import Life
from service.interactions.log import EventLog
from service.interactions.media import MediaKeeper
from service.interactions.overdue import Ends, Overdue
from service.interactions.preparation import Preparation
from service.interactions.reader import Reader
from service.interactions.readers import Readers
from service.interactions.render import with_our_ids, with_webhooks
from service.interactions.sending import Send, Sender
from service.interactions.stream_limits import StreamLimits, shorter
from service.interactions.taking_over import TakeOver
from service.interactions.upstream_copy import UpstreamCopy
from service.store.held import Claim
from service.store.records import USAGE_MISSING, Record, Usage, now
from service.store.store import Store
from service.upstream.client import GeminiClient, Late, Reply
from service.upstream.response import Response
from service.upstream.routing.gate import Gate
from service.webhooks.destinations import Destinations
from service.wire import ids

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: After these upstream may have run the request, and billed it.
_MAY_HAVE_RUN: Final = (BadGateway, DeadlineExceeded)
#: Late answers that are waited for at most, for each create that may run at a time.
_OVERDUE: Final = 0.5
#: An error text longer than this is cut in the record; the caller gets it whole.
_MESSAGE_KEPT: Final = 2_000


class Following(Protocol):
    """Whoever follows what is still open when its create is answered, and is asked to cancel what is late."""

    cancellations: Cancellations

    def follow(self, claim: Claim) -> None:
        """See an interaction through to its end."""

    def remaining(self, created_at: int, deployment_id: str) -> float:
        """The seconds that an interaction has until it is given up."""


class Creator:
    """Creates interactions."""

    def __init__(
        self,
        store: Store,
        client: GeminiClient,
        preparation: Preparation,
        readers: Readers,
        *,
        gate: Gate,
        events: EventLog,
        life: Life,
        following: Following,
        upstream_settle: float,
        stream_limits: StreamLimits,
        take_over: TakeOver,
        upstream_copy: UpstreamCopy,
        media: MediaKeeper | None = None,
        destinations: Destinations | None = None,
    ) -> None:
        self._store = store
        self._gate = gate
        self._sender = Sender(store, preparation)
        #: Creates whose callers have stopped waiting.
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._client = client
        self._preparation = preparation
        self._readers = readers
        self._events = events
        self._life = life
        self._following = following
        self._upstream_settle = upstream_settle
        self.stream_limits = stream_limits
        self._upstream_copy = upstream_copy
        self._media = media
        self._destinations = destinations or Destinations()
        ends = Ends(self._finish, self._read, self._fail)
        most = max(1, int(gate.limit * _OVERDUE))
        self.overdue = following.cancellations.late = Overdue(store, take_over, life.working, ends, most)

    def create(self, call: Call) -> Coroutine[Any, Any, Answer]:
        """Run a unary create; raises a :class:`ServiceError` that carries the interaction's id once it has one."""
        if call.wishes.timeout is None and _stands_alone(call):
            return self._answered(self._job_at_once(call))
        return self._created(call)

    async def _created(self, call: Call) -> Answer:
        job = await self._job(call)
        if call.wishes.timeout is None:
            return await self._answered(job)
        return await self._in_time(job, call.wishes.timeout, self._answered(job))

    async def stream(self, call: Call) -> Feed | Answer:
        """Open a streaming create; the feed's reader belongs to the interaction, not to the caller.

        An :class:`Answer` comes instead when upstream ignored the wish to stream.
        """
        job = await self._job(call)
        timeout = call.wishes.timeout
        limit = self.stream_limits.of(job.route.deployment.id)
        if limit is not None:
            timeout = shorter(timeout, limit)
            if job.course is not None:
                job.course.bound(limit)
        if timeout is None:
            return await self._opened(job)
        return await self._in_time(job, timeout, self._opened(job))

    def _reader(self, job: Job) -> Reader:
        return Reader(job, self._store, self._client, self._events, self._upstream_settle, self._media)

    def _read(self, job: Job, opened: Response, reader: Reader | None = None) -> Feed:
        patience = self._following.remaining(job.intent.created_at, job.route.deployment.id)
        return self._readers.start((reader or self._reader(job)).take(opened, patience))

    async def close(self, patience: float) -> None:
        """Give creates that nobody waits for ``patience`` seconds to be recorded; the rows of the rest stay open."""
        ends = asyncio.get_running_loop().time() + patience
        if self._abandoned:
            _, pending = await asyncio.wait(self._abandoned, timeout=patience)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        await self.overdue.close(max(0.0, ends - asyncio.get_running_loop().time()))
        await self._upstream_copy.close()

    async def _answered(self, job: Job) -> Answer:
        key, working = job.intent.id, self._life.working
        working.add(key)
        try:
            await self._begin(job)
            reply = await self._sent(job, self._client.create)
            return await self._finish(job, reply)
        except Late as late:
            self._wait_on(job, late)
            raise
        finally:
            if not self.overdue.waits_for(key):
                working.discard(key)
            job.end()

    async def _opened(self, job: Job) -> Feed | Answer:
        feed: Feed | None = None
        key, working = job.intent.id, self._life.working
        working.add(key)
        try:
            await self._begin(job)
            reader = Ahead(partial(self._reader, job))
            opened = await self._sent(job, self._client.create_stream)
            if isinstance(opened, Reply):
                job.attempts[-1]["whole"] = True
                return await self._finish(job, opened)
            feed = self._read(job, opened, reader.made())
            # What has come with the head is told in this turn of the event loop, and nobody need be woken for it.
            await asyncio.sleep(0)
            return feed
        except Late as late:
            self._wait_on(job, late)
            raise
        finally:
            if not self.overdue.waits_for(key):
                working.discard(key)
            # A reader ends its job itself.
            if feed is None:
                job.end()

    async def _sent(self, job: Job, call: Send[_Result]) -> _Result:
        try:
            return await self._sender.send(job, call)
        except Late:
            raise
        except ServiceError as error:
            await self._fail(job, error)
            raise

    def _wait_on(self, job: Job, late: Late) -> None:
        """Record what comes of it though its caller is told that it is late."""
        job.abandoned = True
        late.interaction_id = ids.to_text(job.intent.id)
        left = self._following.remaining(job.intent.created_at, job.route.deployment.id)
        self.overdue.wait(job, late, left)

    async def _in_time(self, job: Job, timeout: float, work: Coroutine[Any, Any, _Result]) -> _Result:
        """The result, if it comes while the caller waits; raises :class:`DeadlineExceeded` then, and goes on."""
        task = asyncio.get_running_loop().create_task(work, name="create")
        left = timeout if job.course is None else max(0.0, job.course.left)
        try:
            await asyncio.wait((task,), timeout=left)
        finally:
            if not task.done():
                job.abandoned = True
                self._abandoned.add(task)
                task.add_done_callback(self._recorded)
        if not task.done():
            raise _too_late(job, timeout)
        return task.result()

    def _recorded(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.info("a create failed after its caller had stopped waiting: %s", error)

    async def _job(self, call: Call) -> Job:
        if _stands_alone(call):
            return self._job_at_once(call)
        self._enter(call)
        try:
            job = await self._preparation.job(call)
        except BaseException:
            self._gate.leave()
            raise
        return self._inside(job)

    def _job_at_once(self, call: Call) -> Job:
        self._enter(call)
        try:
            job = self._preparation.job_at_once(call)
        except BaseException:
            self._gate.leave()
            raise
        return self._inside(job)

    def _enter(self, call: Call) -> None:
        if call.envelope.webhooks is not None:
            self._destinations.check(call.envelope.webhooks)
        self._gate.enter()

    def _inside(self, job: Job) -> Job:
        """Have a job keep its place until its course ends."""
        if job.course is not None:
            job.course.on_end(self._gate.leave)
        return job

    async def _begin(self, job: Job) -> None:
        if not self._life.is_sure:
            await self._life.sure()
        listed = isinstance(job.call.envelope.body.get("input"), list)
        call = job.call
        await self._store.begin(
            job.intent, call.raw, listed=listed, claim=call.claim, webhooks=call.envelope.webhooks
        )
        if job.parent is not None:
            await self._hold(job, job.parent)

    async def _hold(self, job: Job, parent: Record) -> None:
        """See that the parent is kept for this job; raises :class:`NotFound` when it was deleted before the intent."""
        try:
            if not await self._is_kept(job, parent):
                raise NotFound(
                    f"The interaction {job.call.envelope.previous_interaction_id!r} in 'previous_interaction_id' was "
                    "deleted while this request began."
                )
        except ServiceError as error:
            await self._fail(job, error)
            await self._store.erase(parent.id, now())
            raise

    async def _is_kept(self, job: Job, parent: Record) -> bool:
        """Whether the parent stands or, of a replay, is kept for its original."""
        if await self._store.stands(parent.id):
            return True
        call = job.call
        if call.replay_of is None:
            return False
        return await self._store.kept_for(call.principal.project_id, call.replay_of) is not None

    async def _finish(self, job: Job, reply: Reply) -> Answer:
        job.first_byte_at = now()
        body = reply.body
        status = outcomes.status_of(body)
        upstream_id = outcomes.upstream_id_of(body)
        terminal = outcomes.is_terminal(status)
        if upstream_id is None and not terminal:
            # Nobody can ask for it again: what there is now is all there will be.
            status, terminal = "incomplete", True
        if body.get("status", status) != status:
            body = {**body, "status": status}
        outcome = job.outcome(
            status=status,
            http_status=reply.status,
            terminal=terminal,
            interaction=body,
            usage=outcomes.usage_of(body) if terminal else None,
            upstream_id=upstream_id,
            error=outcomes.error_of(body),
        )
        media_due = None
        if self._media is not None and job.intent.store:
            media_due = self._media.due(job.call.raw, reply.raw)
        try:
            await self._store.finish(outcome, reply.raw, media_due=media_due)
        except ServiceError as error:
            error.interaction_id = ids.to_text(job.intent.id)
            raise
        if self._media is not None and media_due is not None:
            self._media.keep(job.intent.id, job.intent.project_id)
        job.spent(outcome.usage)
        if not terminal:
            self._following.follow(job.claim(outcome.upstream_id, upstream_stored=outcome.upstream_stored))
        elif job.abandoned:
            # Whoever has the id may have deleted it before upstream's was known.
            await self._upstream_copy.delete_if_deleted(job.intent.id)
        told = with_webhooks(with_our_ids(body, job.intent.id, job.intent.previous_id), job.webhooks)
        return Answer(told, upstream_id, job.history, job.served)

    async def _fail(self, job: Job, error: ServiceError) -> None:
        error.interaction_id = ids.to_text(job.intent.id)
        outcome = job.outcome(
            status="failed",
            http_status=error.status,
            terminal=True,
            usage=Usage(USAGE_MISSING) if isinstance(error, _MAY_HAVE_RUN) else None,
            error=(error.code, error.message[:_MESSAGE_KEPT]),
        )
        try:
            # Whoever was told that it goes on is told by webhook how it has failed.
            refused = not job.abandoned
            await self._store.finish(outcome, None, free_key=frees_key(job, error), refused=refused)
        except ServiceError:
            # The row stays open and is found by that; the caller is told what went wrong first.
            logger.exception("the failure of %s could not be recorded", error.interaction_id)


def _stands_alone(call: Call) -> bool:
    """Whether nothing has to be looked up for a call: it follows nothing, and sends nothing again."""
    return call.envelope.previous_interaction_id is None and call.replay_of is None


def _too_late(job: Job, timeout: float) -> DeadlineExceeded:
    """What a caller is told that has stopped waiting; names the interaction once that is committed."""
    error = DeadlineExceeded(
        f"There is no answer after the {timeout:g} seconds that it may take. The request goes on, and what comes of "
        "it is recorded: GET the interaction that 'x-interaction-id' names."
    )
    if job.attempts:
        error.interaction_id = ids.to_text(job.intent.id)
        error.deployment, error.attempts = job.served.deployment, job.served.attempts
    return error
