"""From a call to a job: the parent resolved, the deployment chosen, the body for upstream written.

A follow-up names upstream's copy of its parent where that should be alive, and otherwise carries the whole
conversation (:mod:`service.interactions.history`).
"""

from __future__ import annotations

from typing import Any

from service.errors import FailedPrecondition, UpstreamError
from service.interactions.calls import REVISION_NUMBERS, Call, Job
from service.interactions.history import History, check_anchor, upstream_copy_lives
from service.interactions.lifecycle import Lifecycle
from service.settings.model import History as HistorySetting
from service.store.records import Intent, Record, now
from service.store.store import Store
from service.upstream.deployments import Deployment, Deployments, Route
from service.wire import codec, ids, labels, legacy
from service.wire.envelope import Envelope
from service.wire.revision import Revision


class Preparation:
    """Makes jobs, and makes one anew when upstream has lost what it refers to."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        lifecycle: Lifecycle,
        history: History,
        default_history: HistorySetting,
        process: bytes,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._lifecycle = lifecycle
        self._history = history
        self._default_history = default_history
        self._process = process

    async def job(self, call: Call) -> Job:
        """The job of a call, nothing of it written or sent yet; raises a :class:`~service.errors.ServiceError`."""
        envelope = call.envelope
        parent = await self._parent(call) if envelope.previous_interaction_id is not None else None
        route = self._deployments.route(
            envelope.model, envelope.agent, parent.deployment_id if parent is not None else None
        )
        local = (call.history or self._default_history) == "local" or _answer_is_unstored(envelope, parent)
        # Only what upstream stores can run in its background or in a sandbox (contract 6).
        kept_upstream = envelope.store and (not local or envelope.background or envelope.agent is not None)
        changes: dict[str, Any] = {}
        if route.model is not None and route.model != envelope.model:
            changes["model"] = route.model
        if kept_upstream != envelope.store:
            changes["store"] = kept_upstream
        if envelope.webhooks is not None:
            # Upstream's webhooks would carry upstream's ids; this service delivers its own (contract 6.1).
            changes["webhook_config"] = None
        intent = _intent(call, route, parent, kept_upstream, self._process)
        job = Job(call, intent, route, parent, changes, refers_upstream=False, body=b"")
        if parent is not None and self._refers_upstream(envelope, parent, route.deployment, local=local):
            job.refers_upstream = True
        await self._write_body(job)
        return job

    async def _write_body(self, job: Job) -> None:
        """Write the body for upstream, with a reference to the parent's copy there or the whole conversation."""
        envelope, parent = job.call.envelope, job.parent
        if parent is None:
            job.body = _upstream_body(job.call, job.changes)
        elif job.refers_upstream:
            job.body = _upstream_body(
                job.call, {**job.changes, "previous_interaction_id": parent.upstream_id}
            )
        else:
            body = legacy.request_to_steps(envelope.body)
            conversation = await self._history.rebuilt_input(parent, envelope, body, job.route.deployment)
            job.body = _upstream_body(
                job.call, {**job.changes, "previous_interaction_id": None, "input": conversation}
            )
            self._history.check_size(job.body, job.intent.depth)

    def _refers_upstream(
        self, envelope: Envelope, parent: Record, deployment: Deployment, *, local: bool
    ) -> bool:
        if not envelope.continues:
            # An agent's sandbox is upstream's: there is nothing to send in its place (contract 5.5), and it may have
            # been any interaction's of the chain.
            return (envelope.agent is not None or not local) and upstream_copy_lives(parent, deployment)
        # A token is bound to the upstream interaction that issued it, and where upstream did not store that, to the
        # key (contract 4.7); nothing can stand in for either.
        unstored = _answer_is_unstored(envelope, parent)
        if parent.deployment_id != deployment.id or (parent.upstream_id is None and not unstored):
            raise FailedPrecondition(
                "The interaction that issued this 'continuation_token' is not on a deployment that can continue it."
            )
        return not unstored

    async def _parent(self, call: Call) -> Record:
        reference = call.envelope.previous_interaction_id or ""
        parent = await self._lifecycle.find(call.principal, reference, "previous_interaction_id")
        if call.envelope.continuation_token is not None:
            # A token may come from the middle of a stream that still runs or was cut (contract 4.7): upstream decides.
            return parent
        if not parent.terminal:
            parent = await self._lifecycle.refreshed(parent)
        check_anchor(parent, reference)
        return parent

    async def rebuilt(self, job: Job, error: UpstreamError) -> bool:
        """Put the whole conversation into the job when upstream has lost the parent; at most once per request."""
        envelope, parent = job.call.envelope, job.parent
        if parent is None or not job.refers_upstream or envelope.continues:
            return False
        replaceable = envelope.agent is None or parent.agent is None
        if not await self._history.is_gone(error, parent, job.route.deployment, replaceable=replaceable):
            return False
        await self._store.mark_upstream_gone(parent.id, now())
        job.refers_upstream = False
        await self._write_body(job)
        return True


def _answer_is_unstored(envelope: Envelope, parent: Record | None) -> bool:
    """Whether the request goes on with an answer that upstream was asked not to store."""
    return envelope.continues and parent is not None and not parent.upstream_stored


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


def _intent(call: Call, route: Route, parent: Record | None, kept_upstream: bool, process: bytes) -> Intent:
    envelope = call.envelope
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
        labels=labels.stored(envelope.body.get("labels"), call.labels),
        deployment_id=route.deployment.id,
        upstream_stored=kept_upstream,
        owner_id=process,
        replay_of=call.replay_of,
    )
