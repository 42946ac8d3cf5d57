"""One create: resolve, choose, commit the intent, call upstream, commit the outcome, answer.

What happens when the process dies: before the intent is committed, nothing was sent; after it, the row stays
``in_progress`` without an outcome, and another process takes it over, which finds it by that; after the outcome is
committed, the answer can be read back. A client that leaves changes nothing: the handler runs on. When the outcome
cannot be committed, the client gets an error and never the answer (promise P1).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from service.errors import BadGateway, DeadlineExceeded, NotFound, ServiceError, UpstreamError
from service.interactions import outcomes
from service.interactions.calls import Answer, Call, Job
from service.interactions.feed import Feed
from service.interactions.idempotency import frees_key
from service.interactions.life import Life
from service.interactions.log import EventLog
from service.interactions.media import MediaKeeper
from service.interactions.preparation import Preparation
from service.interactions.reader import Reader
from service.interactions.readers import Readers
from service.interactions.render import with_our_ids, with_webhooks
from service.store.held import Claim
from service.store.records import USAGE_MISSING, Outcome, Record, Usage, now
from service.store.store import Store
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment
from service.upstream.transport import Response
from service.webhooks.destinations import Destinations
from service.wire import ids

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_Send = Callable[[Deployment, bytes, bytes], Awaitable[_Result]]

#: After these upstream may have run the request, and billed it.
_MAY_HAVE_RUN: Final = (BadGateway, DeadlineExceeded)
#: An error text longer than this is cut in the record; the caller gets it whole.
_MESSAGE_KEPT: Final = 2_000


class Following(Protocol):
    """Whoever follows what is still open when its create is answered."""

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
        events: EventLog,
        life: Life,
        following: Following,
        upstream_settle: float,
        media: MediaKeeper | None = None,
        destinations: Destinations | None = None,
    ) -> None:
        self._store = store
        self._client = client
        self._preparation = preparation
        self._readers = readers
        self._events = events
        self._life = life
        self._following = following
        self._upstream_settle = upstream_settle
        self._media = media
        self._destinations = destinations or Destinations()

    async def create(self, call: Call) -> Answer:
        """Run a unary create; raises a :class:`ServiceError` that carries the interaction's id once it has one."""
        job = await self._job(call)
        with self._life.work(job.intent.id):
            await self._begin(job)
            try:
                reply = await self._send(job, self._client.create)
            except ServiceError as error:
                await self._fail(job, error)
                raise
            return await self._finish(job, reply)

    async def stream(self, call: Call) -> Feed | Answer:
        """Open a streaming create; the feed's reader belongs to the interaction, not to the caller.

        An :class:`Answer` comes instead when upstream ignored the wish to stream.
        """
        job = await self._job(call)
        with self._life.work(job.intent.id):
            await self._begin(job)
            try:
                opened = await self._send(job, self._client.create_stream)
            except ServiceError as error:
                await self._fail(job, error)
                raise
            if isinstance(opened, Reply):
                job.attempts[-1]["whole"] = True
                return await self._finish(job, opened)
            return self._readers.start(self._reader(job, opened))

    def _reader(self, job: Job, opened: Response) -> Reader:
        patience = None
        if job.intent.background:
            patience = self._following.remaining(job.intent.created_at, job.route.deployment.id)
        return Reader(
            job,
            opened,
            self._store,
            self._client,
            self._events,
            self._upstream_settle,
            self._media,
            patience=patience,
        )

    async def _job(self, call: Call) -> Job:
        if call.envelope.webhooks is not None:
            self._destinations.check(call.envelope.webhooks)
        return await self._preparation.job(call)

    async def _begin(self, job: Job) -> None:
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
            if not await self._store.stands(parent.id):
                raise NotFound(
                    f"The interaction {job.call.envelope.previous_interaction_id!r} in 'previous_interaction_id' was "
                    "deleted while this request began."
                )
        except ServiceError as error:
            await self._fail(job, error)
            await self._store.erase(parent.id, now())
            raise

    async def _send(self, job: Job, send: _Send[_Result]) -> _Result:
        try:
            return await _attempt(job, send)
        except UpstreamError as error:
            if not await self._preparation.rebuilt(job, error):
                raise
        return await _attempt(job, send)

    async def _finish(self, job: Job, reply: Reply) -> Answer:
        job.first_byte_at = now()
        body = reply.body
        status = outcomes.status_of(body)
        upstream_id = outcomes.upstream_id_of(body)
        terminal = outcomes.is_terminal(status)
        if upstream_id is None and not terminal:
            # Nobody can ask for it again: what there is now is all there will be.
            status, terminal = "incomplete", True
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
        if not terminal:
            self._following.follow(_claim(outcome, job))
        told = with_webhooks(with_our_ids(body, job.intent.id, job.intent.previous_id), job.webhooks)
        return Answer(told, upstream_id, job.history)

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
            await self._store.finish(outcome, None, free_key=frees_key(job, error), refused=True)
        except ServiceError:
            # The row stays open and is found by that; the caller is told what went wrong first.
            logger.exception("the failure of %s could not be recorded", error.interaction_id)


def _claim(outcome: Outcome, job: Job) -> Claim:
    intent = job.intent
    return Claim(
        intent.id,
        intent.project_id,
        intent.created_at,
        intent.stream,
        intent.background,
        outcome.deployment_id,
        outcome.upstream_id,
        outcome.upstream_stored,
    )


async def _attempt(job: Job, send: _Send[_Result]) -> _Result:
    started = now()
    attempt: dict[str, Any] = {"deployment": job.route.deployment.id, "started": started}
    if job.parent is not None:
        attempt["history"] = "upstream" if job.refers_upstream else "rebuilt"
    job.attempts.append(attempt)
    try:
        result = await send(job.route.deployment, job.body, job.call.upstream_headers)
    except ServiceError as error:
        error.message = job.told(error.message)
        attempt |= {"us": now() - started, "status": error.status, "code": error.code}
        raise
    attempt |= {"us": now() - started, "status": 200}
    return result
