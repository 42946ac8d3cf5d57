"""A job on its way to upstream: attempt by attempt, on one deployment after another, until there is an answer.

Each attempt is an entry of the record's ``attempts``. Before a request goes to another deployment than the intent
names, that change is committed (promise P2), and its body is written for that one: upstream's copy of the conversation
is named only where it lives. Nothing is repeated once upstream has answered, so a caller never sees two beginnings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import orjson

from service.errors import Aborted, FailedPrecondition, ServiceError, Superseded, UpstreamError
from service.interactions.calls import Job
from service.interactions.preparation import Preparation
from service.store.records import now
from service.store.store import Store
from service.upstream.client import Late
from service.upstream.deployments import Deployment
from service.upstream.routing.retry import Decision, Failure, failure_of

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
Send = Callable[[Deployment, bytes, bytes], Awaitable[_Result]]

_MICROSECONDS: Final = 1_000_000


class Sender:
    """Sends jobs; ``settings`` of retries and fallbacks are the job's own course's."""

    def __init__(self, store: Store, preparation: Preparation) -> None:
        self._store = store
        self._preparation = preparation

    async def send(self, job: Job, call: Send[_Result]) -> _Result:
        """Upstream's answer; raises the :class:`ServiceError` of the last attempt when none can follow.

        That may be one which is only :class:`Late`.
        """
        reason: str | None = None
        while True:
            try:
                return await _attempt(job, call, reason)
            except ServiceError as error:
                if isinstance(error, UpstreamError) and await self._preparation.rebuilt(job, error):
                    reason = "the conversation was lost upstream"
                    continue
                if not await self._moved(job):
                    raise
                if isinstance(error, Late):
                    error.give_up()
                reason = error.code

    async def _moved(self, job: Job) -> bool:
        """Whether the job has a place for another attempt, with everything written and committed for it."""
        course = job.course
        decision = course.next() if course is not None else None
        if course is None or decision is None:
            return False
        before = job.route
        try:
            try:
                await self._move(job, decision)
            except (FailedPrecondition, Aborted) as error:
                job.route = before
                if not await self._stayed(job, error):
                    return False
        except ServiceError as error:
            logger.info("an attempt on %s is the last one: %s", before.deployment.id, error.message)
            job.route = before
            return False
        return True

    async def _stayed(self, job: Job, reason: ServiceError) -> bool:
        """Whether what cannot be had elsewhere has a place for another attempt where it was."""
        course = job.course
        decision = course.stay() if course is not None else None
        if course is None or decision is None:
            return False
        home = job.route.deployment.id
        logger.info("a conversation stays on %s: %s", home, reason.message)
        await asyncio.sleep(decision.pause)
        await self._check_held(job)
        await self._preparation.address(job, course.back())
        return True

    async def _check_held(self, job: Job) -> None:
        """Raise :class:`Superseded` when somebody has ended the interaction during a pause, or has taken it over."""
        found = await self._store.find_held(job.intent.id)
        if found is None or found[0].terminal or found[0].owner_id != job.intent.owner_id:
            raise Superseded()

    async def _move(self, job: Job, decision: Decision) -> None:
        course = job.course
        if course is None:
            return
        if decision.pause:
            await asyncio.sleep(decision.pause)
        await self._check_held(job)
        left = job.route
        route = course.move(decision)
        if route is left:
            return
        await self._preparation.address(job, route)
        if route.deployment is not left.deployment:
            attempts = orjson.dumps(job.attempts).decode()
            intent = job.intent
            await self._store.reroute(intent.id, intent.owner_id, route.deployment.id, attempts, now())


async def _attempt(job: Job, send: Send[_Result], reason: str | None) -> _Result:
    started = now()
    attempt: dict[str, Any] = {"deployment": job.route.deployment.id, "started": started}
    if job.parent is not None:
        attempt["history"] = "upstream" if job.refers_upstream else "rebuilt"
    if reason is not None:
        attempt["after"] = reason
    course = job.course
    if course is not None and course.fallback is not None:
        attempt["fallback"] = course.fallback
    job.attempts.append(attempt)
    try:
        result = await send(job.route.deployment, job.body, job.call.upstream_headers)
    except ServiceError as error:
        failure = failure_of(error)
        error.message = job.told(error.message)
        error.deployment, error.attempts = job.route.deployment.id, len(job.attempts)
        attempt |= told(failure, now() - started)
        if course is not None:
            course.failed(attempt["us"] / _MICROSECONDS, failure)
        raise
    attempt |= {"us": now() - started, "status": 200}
    if course is not None:
        course.answered(attempt["us"] / _MICROSECONDS)
    return result


def told(failure: Failure, microseconds: int) -> dict[str, Any]:
    """What the record tells of a failed attempt; ``ambiguous``: upstream may have run it all the same."""
    tells: dict[str, Any] = {"us": microseconds, "status": failure.status, "code": failure.code}
    return tells | {"ambiguous": True} if failure.may_have_run else tells
