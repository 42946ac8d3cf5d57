"""One create: resolve, choose, commit the intent, call upstream, commit the outcome, answer.

What happens when the process dies: before the intent is committed, nothing was sent; after it, the row stays
``in_progress`` without an outcome and is found by that; after the outcome is committed, the answer can be read back.
A client that leaves changes nothing: the handler runs on. When the outcome cannot be committed, the client gets an
error and never the answer (promise P1).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from service.errors import FailedPrecondition, ServiceError, UpstreamError
from service.interactions import outcomes
from service.interactions.calls import REVISION_NUMBERS, Answer, Call, Job
from service.interactions.history import History, check_anchor, resolve, upstream_copy_lives
from service.interactions.lifecycle import Lifecycle
from service.interactions.render import with_our_ids
from service.interactions.streaming import Feed, Reader, Readers
from service.settings.model import History as HistorySetting
from service.store.records import Intent, Record, now
from service.store.store import Store
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment, Deployments, Route
from service.wire import codec, ids, legacy
from service.wire.envelope import Envelope
from service.wire.revision import Revision

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_Send = Callable[[Deployment, bytes, bytes], Awaitable[_Result]]

#: An error text longer than this is cut in the record; the caller gets it whole.
_MESSAGE_KEPT: Final = 2_000


class Creator:
    """Creates interactions."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        client: GeminiClient,
        lifecycle: Lifecycle,
        readers: Readers,
        history: HistorySetting,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._client = client
        self._lifecycle = lifecycle
        self._readers = readers
        self._history = History(store, client)
        self._always_rebuild = history == "local"

    async def create(self, call: Call) -> Answer:
        """Run a unary create; raises a :class:`ServiceError` that carries the interaction's id once it has one."""
        job = await self._begin(call)
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
        job = await self._begin(call)
        try:
            opened = await self._send(job, self._client.create_stream)
        except ServiceError as error:
            await self._fail(job, error)
            raise
        if isinstance(opened, Reply):
            return await self._finish(job, opened)
        return self._readers.start(Reader(job, opened, self._store, self._client))

    async def _begin(self, call: Call) -> Job:
        envelope = call.envelope
        parent = await self._parent(call) if envelope.previous_interaction_id is not None else None
        route = self._deployments.route(
            envelope.model, envelope.agent, parent.deployment_id if parent is not None else None
        )
        job = await self._job(call, route, parent)
        await self._store.begin(job.intent, call.raw)
        return job

    async def _parent(self, call: Call) -> Record:
        reference = call.envelope.previous_interaction_id or ""
        project = call.principal.project_id
        parent = await resolve(self._store, project, reference, "previous_interaction_id")
        if not parent.terminal:
            parent = await self._lifecycle.refreshed(parent)
        check_anchor(parent, reference)
        return parent

    async def _job(self, call: Call, route: Route, parent: Record | None) -> Job:
        envelope = call.envelope
        kept_upstream = envelope.store and (not self._always_rebuild or envelope.background)
        changes: dict[str, Any] = {}
        if route.model is not None and route.model != envelope.model:
            changes["model"] = route.model
        if kept_upstream != envelope.store:
            changes["store"] = kept_upstream
        refers = False
        if parent is not None:
            refers = self._refers_upstream(envelope, parent, route.deployment)
            changes |= await self._reference(envelope, parent, refers)
        body = _upstream_body(call, changes)
        return Job(call, _intent(call, route, parent, kept_upstream), route, parent, body, refers)

    def _refers_upstream(self, envelope: Envelope, parent: Record, deployment: Deployment) -> bool:
        if envelope.continuation_token is None:
            return not self._always_rebuild and upstream_copy_lives(parent, deployment)
        # A token is bound to the upstream interaction that issued it (contract 4.7); nothing can stand in for that.
        if parent.upstream_id is None or parent.deployment_id != deployment.id:
            raise FailedPrecondition(
                "The interaction that issued this 'continuation_token' is not on a deployment that can continue it."
            )
        return True

    async def _reference(self, envelope: Envelope, parent: Record, refers: bool) -> dict[str, Any]:
        if refers:
            return {"previous_interaction_id": parent.upstream_id}
        body = legacy.request_to_steps(envelope.body)
        return {"previous_interaction_id": None, "input": await self._history.rebuilt_input(parent, body)}

    async def _send(self, job: Job, send: _Send[_Result]) -> _Result:
        try:
            return await _attempt(job, send)
        except UpstreamError as error:
            if not await self._rebuild(job, error):
                raise
        return await _attempt(job, send)

    async def _rebuild(self, job: Job, error: UpstreamError) -> bool:
        """Put the whole conversation into the job when upstream has lost the parent; at most once per request."""
        envelope, parent = job.call.envelope, job.parent
        if parent is None or not job.refers_upstream or envelope.continuation_token is not None:
            return False
        if not await self._history.is_gone(error, parent, job.route.deployment):
            return False
        await self._store.mark_upstream_gone(parent.id, now())
        changes: dict[str, Any] = await self._reference(envelope, parent, refers=False)
        if job.route.model is not None:
            changes["model"] = job.route.model
        job.body = _upstream_body(job.call, changes)
        job.refers_upstream = False
        return True

    async def _finish(self, job: Job, reply: Reply) -> Answer:
        job.first_byte_at = now()
        body = reply.body
        status = outcomes.status_of(body)
        upstream_id = outcomes.upstream_id_of(body)
        terminal = outcomes.is_terminal(status) or upstream_id is None
        outcome = job.outcome(
            status=status,
            http_status=reply.status,
            terminal=terminal,
            interaction=body,
            usage=outcomes.usage_of(body) if terminal else None,
            upstream_id=upstream_id,
            error=outcomes.error_of(body),
        )
        try:
            await self._store.finish(outcome, reply.raw)
        except ServiceError as error:
            error.interaction_id = ids.to_text(job.intent.id)
            raise
        return Answer(with_our_ids(body, job.intent.id, job.intent.previous_id), upstream_id)

    async def _fail(self, job: Job, error: ServiceError) -> None:
        error.interaction_id = ids.to_text(job.intent.id)
        outcome = job.outcome(
            status="failed",
            http_status=error.status,
            terminal=True,
            error=(error.code, error.message[:_MESSAGE_KEPT]),
        )
        try:
            await self._store.finish(outcome, None)
        except ServiceError:
            # The row stays open and is found by that; the caller is told what went wrong first.
            logger.exception("the failure of %s could not be recorded", error.interaction_id)


async def _attempt(job: Job, send: _Send[_Result]) -> _Result:
    started = now()
    attempt: dict[str, Any] = {"deployment": job.route.deployment.id, "started": started}
    if job.parent is not None:
        attempt["history"] = "upstream" if job.refers_upstream else "rebuilt"
    job.attempts.append(attempt)
    try:
        result = await send(job.route.deployment, job.body, job.call.upstream_headers)
    except ServiceError as error:
        attempt |= {"us": now() - started, "status": error.status, "code": error.code}
        raise
    attempt |= {"us": now() - started, "status": 200}
    return result


def _upstream_body(call: Call, changes: dict[str, Any]) -> bytes:
    """The request in the current schema; the caller's own bytes where nothing has to change."""
    body = call.envelope.body
    if call.revision is Revision.LEGACY:
        body = legacy.request_to_steps(body)
    if not changes and body is call.envelope.body:
        return call.raw
    changed = {**body, **changes}
    return codec.dumps(
        {name: value for name, value in changed.items() if name not in changes or value is not None}
    )


def _intent(call: Call, route: Route, parent: Record | None, kept_upstream: bool) -> Intent:
    envelope = call.envelope
    labels = envelope.body.get("labels")
    return Intent(
        id=ids.mint(),
        project_id=call.principal.project_id,
        key_id=call.principal.key_id,
        previous_id=None if parent is None else parent.id,
        root_id=None if parent is None else parent.root_id or parent.id,
        depth=0 if parent is None else parent.depth + 1,
        created_at=now(),
        revision=REVISION_NUMBERS[call.revision],
        stream=envelope.stream,
        background=envelope.background,
        store=envelope.store,
        model_requested=envelope.model,
        agent=envelope.agent,
        labels=codec.dumps(labels).decode() if isinstance(labels, dict) else None,
        deployment_id=route.deployment.id,
        upstream_stored=kept_upstream,
    )
