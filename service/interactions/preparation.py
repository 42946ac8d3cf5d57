"""From a call to a job: the parent resolved, the deployment chosen, the body for upstream written.

A follow-up names upstream's copy of its parent where that should be alive, and otherwise carries the whole
conversation (:mod:`service.interactions.history`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

from service.errors import Aborted, FailedPrecondition, NotFound, UpstreamError
from service.interactions.calls import REVISION_NUMBERS, Call, Job
from service.interactions.history import History, check_anchor, upstream_copy_lives
from service.interactions.lifecycle import Lifecycle
from service.settings.model import History as HistorySetting
from service.store.records import Intent, Record, now
from service.store.store import Store
from service.upstream.deployments import Deployment, Route
from service.upstream.routing.course import Ask, Course
from service.upstream.routing.router import Router
from service.wire import codec, ids, labels, legacy, media
from service.wire.envelope import Envelope
from service.wire.revision import Revision

#: A member that LiteLLM's users send; it is the router's and not upstream's.
_FALLBACKS: Final = "fallbacks"
#: Seconds between looks for upstream's id of a stream that somebody goes on with already.
_ID_FOLLOWS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Preparation:
    """Makes jobs, and makes one anew when upstream has lost what it refers to."""

    def __init__(
        self,
        store: Store,
        router: Router,
        lifecycle: Lifecycle,
        history: History,
        default_history: HistorySetting,
        process: bytes,
    ) -> None:
        self._store = store
        self._router = router
        self._lifecycle = lifecycle
        self._history = history
        self._default_history = default_history
        self._process = process

    def job_at_once(self, call: Call) -> Job:
        """The same as :meth:`job` for what follows nothing and sends nothing again: nothing is looked up for it."""
        course = self._router.start(_ask(call, None))
        try:
            job = self._drafted(course, call, None)
            _rename(job, course.route)
            job.body = _upstream_body(call, job.changes)
        except BaseException:
            course.end()
            raise
        return job

    async def job(self, call: Call) -> Job:
        """The job of a call, nothing of it written or sent yet; raises a :class:`~service.errors.ServiceError`."""
        envelope = call.envelope
        parent = await self._parent(call) if envelope.previous_interaction_id is not None else None
        ask = _ask(call, parent)
        try:
            return await self._job_of(ask, call, parent)
        except (FailedPrecondition, Aborted):
            # What cannot be rebuilt elsewhere can be gone on with where it is, even if that is not well now.
            if parent is None or ask.pinned or not self._may_be_held(ask, parent):
                raise
            return await self._job_of(ask._replace(pinned=True), call, parent)

    async def _job_of(self, ask: Ask, call: Call, parent: Record | None) -> Job:
        course = self._router.start(ask)
        try:
            job = self._drafted(course, call, parent)
            await self.address(job, course.route)
        except BaseException:
            course.end()
            raise
        return job

    def _may_be_held(self, ask: Ask, parent: Record) -> bool:
        """Whether a deployment that could serve the request, but was not chosen, should hold the parent."""
        state = self._router.pool(ask.model, ask.agent).find(parent.deployment_id)
        return (
            state is not None
            and state.rest_until > self._router.clock()
            and upstream_copy_lives(parent, state.deployment)
        )

    def _drafted(self, course: Course, call: Call, parent: Record | None) -> Job:
        """The job of a call on its course, without its body."""
        envelope, route = call.envelope, course.route
        # Only what upstream stores can run in its background or in a sandbox (contract 6).
        kept_upstream = envelope.store and (
            not self._is_local(call, parent) or envelope.background or envelope.agent is not None
        )
        changes: dict[str, Any] = {}
        if kept_upstream != envelope.store:
            changes["store"] = kept_upstream
        if envelope.webhooks is not None:
            # Upstream's webhooks would carry upstream's ids; this service delivers its own (contract 6.1).
            changes["webhook_config"] = None
        if _FALLBACKS in envelope.body:
            changes[_FALLBACKS] = None
        intent = _intent(call, route, parent, kept_upstream, self._process)
        return Job(call, intent, route, parent, changes, refers_upstream=False, body=b"", course=course)

    async def address(self, job: Job, route: Route) -> None:
        """Write the job's body for this deployment: upstream's copy is named only where it lives.

        Raises a :class:`~service.errors.ServiceError` when the conversation cannot be had there.
        """
        call, parent = job.call, job.parent
        job.route = route
        job.changes.pop("model", None)
        _rename(job, route)
        job.refers_upstream = (
            parent is not None
            and not job.lost_upstream
            and self._refers_upstream(
                call.envelope, parent, route.deployment, local=self._is_local(call, parent)
            )
        )
        await self._write_body(job)

    def _is_local(self, call: Call, parent: Record | None) -> bool:
        return (call.history or self._default_history) == "local" or _answer_is_unstored(
            call.envelope, parent
        )

    async def _write_body(self, job: Job) -> None:
        """Write the body for upstream, with a reference to the parent's copy there or the whole conversation."""
        envelope, parent = job.call.envelope, job.parent
        again = await self._input_again(job)
        if parent is None:
            job.body = _upstream_body(job.call, {**job.changes, **again})
        elif job.refers_upstream:
            reference = {"previous_interaction_id": parent.upstream_id}
            job.body = _upstream_body(job.call, {**job.changes, **again, **reference})
        else:
            body = {**legacy.request_to_steps(envelope.body), **again}
            conversation = await self._history.rebuilt_input(parent, envelope, body, job.route.deployment)
            job.body = _upstream_body(
                job.call, {**job.changes, "previous_interaction_id": None, "input": conversation}
            )
            self._history.check_size(job.body, job.intent.depth)

    async def _input_again(self, job: Job) -> dict[str, Any]:
        """What has to change in the input of a replay: upstream may have had the files that its original named."""
        call = job.call
        if call.replay_of is None or not media.may_refer(call.raw):
            return {}
        body = legacy.request_to_steps(call.envelope.body)
        revived = await self._history.input_again(
            call.principal.project_id, call.replay_of, body, job.route.deployment
        )
        return {} if revived is None else {"input": revived}

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
        try:
            parent = await self._lifecycle.find(call.principal, reference, "previous_interaction_id")
        except NotFound as error:
            if call.replay_of is None:
                raise
            kept = await self._store.kept_for(call.principal.project_id, call.replay_of)
            if kept is None:
                raise NotFound(
                    f"The interaction {ids.to_text(call.replay_of)!r} cannot be sent again: what it followed, "
                    f"{reference!r}, was deleted or is elsewhere, and is not kept for it."
                ) from error
            # Upstream's copy was deleted with it.
            parent = replace(kept, upstream_id=None)
        if call.envelope.continuation_token is not None:
            # A token may come from the middle of a stream that still runs or was cut (contract 4.7): upstream decides.
            return await self._recorded(call, parent)
        if not parent.terminal:
            parent = await self._lifecycle.refreshed(parent)
        check_anchor(parent, reference)
        return parent

    async def _recorded(self, call: Call, parent: Record) -> Record:
        """The parent with upstream's id, which is recorded a moment after its stream has told its first events."""
        for pause in _ID_FOLLOWS:
            if parent.terminal or parent.upstream_id is not None or not parent.upstream_stored:
                break
            await asyncio.sleep(pause)
            parent = await self._lifecycle.find(
                call.principal, ids.to_text(parent.id), "previous_interaction_id"
            )
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
        job.lost_upstream = True
        await self._write_body(job)
        return True


def _rename(job: Job, route: Route) -> None:
    """Have the model called as upstream spells it."""
    if route.model is not None and route.model != job.call.envelope.model:
        job.changes["model"] = route.model


def _ask(call: Call, parent: Record | None) -> Ask:
    envelope = call.envelope
    if parent is None:
        return Ask(envelope.model, envelope.agent, wishes=call.wishes)
    # Neither a token nor an agent's sandbox is of use anywhere else (contract 4.7, 5.5).
    pinned = envelope.continues or (envelope.agent is not None and parent.upstream_id is not None)
    return Ask(envelope.model, envelope.agent, parent.deployment_id, pinned, call.wishes)


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
