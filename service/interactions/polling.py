"""Asking upstream about an open interaction that this process holds, and committing what it says.

Upstream's stream is taken up where there is one; what cannot be streamed is asked for. What upstream does not end ends
in a verdict: there was no answer before a crash, it has lost it, or it takes longer than it may.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from zlib import crc32

from service.errors import ServiceError, Superseded
from service.interactions import outcomes
from service.interactions.attaching import Attaching, NoStream
from service.interactions.cancelling import last_word
from service.interactions.inquiry import Gone, ask, cancel, is_word
from service.interactions.reader import Reader
from service.interactions.run import Pacing, Run
from service.interactions.taking_over import TakeOver
from service.interactions.upstream_copy import UpstreamCopy
from service.interactions.verdicts import GIVEN_UP, INTERRUPTED, LOST, Verdict, failed
from service.store.records import Record
from service.store.store import Store
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment, Deployments
from service.wire import ids

logger = logging.getLogger(__name__)


class Polling:
    """One per process. ``room`` says whether another stream may be read, and ``start`` lets a reader run."""

    def __init__(
        self,
        process: bytes,
        store: Store,
        client: GeminiClient,
        deployments: Deployments,
        attaching: Attaching,
        take_over: TakeOver,
        upstream_copy: UpstreamCopy,
        *,
        pacing: Pacing,
        upstream_settle: float,
    ) -> None:
        self._process = process
        self._store = store
        self._client = client
        self._deployments = deployments
        self._attaching = attaching
        self._take_over = take_over
        #: To be asked when a run has ended.
        self.upstream_copy = upstream_copy
        self._pacing = pacing
        self._upstream_settle = upstream_settle
        self.room: Callable[[], bool] = lambda: False
        self.start: Callable[[Reader], None] = lambda reader: None
        #: What clients end that nobody reads, and how many of them are about it.
        self._ending = Counter[bytes]()

    async def poll(self, run: Run) -> bool:
        """Ask once; whether the run is over, or another's, as far as the schedule is concerned."""
        try:
            over = await self._ended(run)
        except Superseded:
            return True
        except ServiceError as error:
            logger.warning("%s is asked about again later: %s", ids.to_text(run.key), error)
            over = False
        run.pause = self._pacing.after(run.pause)
        if run.missing_since is not None:
            run.pause = min(run.pause, self._upstream_settle / 4)
        return over

    async def cancelled(self, reader: Reader, headers: bytes = b"") -> dict[str, Any] | None:
        """Upstream's last word on a background run that it is told to cancel; None where it has none.

        Raises :class:`~service.errors.ServiceError` when it refuses.
        """
        return await last_word(self._client, reader.job, reader.feed.upstream_id, headers)

    @contextmanager
    def ending(self, key: bytes) -> Iterator[None]:
        """See that no reader of an interaction begins while a client ends it."""
        self._ending[key] += 1
        try:
            yield
        finally:
            self._ending[key] -= 1
            if not self._ending[key]:
                del self._ending[key]

    async def _ended(self, run: Run) -> bool:
        claim = run.claim
        if claim.upstream_id is None or not claim.upstream_stored:
            return await self._fail(run, INTERRUPTED)
        remaining = run.ends_at - asyncio.get_running_loop().time()
        deployment = self._deployments.by_id(claim.deployment_id)
        if deployment is None:
            # Upstream has it no more, or this could not have been taken over.
            return remaining <= 0 and await self._fail(run, GIVEN_UP)
        if run.cancel_wished or remaining <= 0:
            reply = await self._cancelled(deployment, claim.upstream_id)
            if run.cancel_wished and reply is not None:
                return await self._heard(run, reply)
            if remaining <= 0:
                return await self._given_up(run, deployment, claim.upstream_id)
        reply = None
        if run.may_stream and self.room() and run.key not in self._ending:
            attached = await self._attach(run, deployment, remaining)
            if isinstance(attached, bool):
                return attached
            reply = attached
        return await self._asked(run, deployment, claim.upstream_id, reply)

    async def _attach(self, run: Run, deployment: Deployment, remaining: float) -> bool | Reply | None:
        """Take up the stream; whether that is done, or what there is instead."""
        record = await self._open(run)
        if record is None:
            return True
        try:
            found = await self._attaching.reader(record, deployment, remaining)
        except NoStream:
            run.may_stream = False
            return None
        if not isinstance(found, Reader):
            return found
        # It may have ended, or been lost, while upstream was asked for the stream.
        try:
            record = await self._open(run)
        except BaseException:
            found.close()
            raise
        if record is None:
            found.close()
        elif run.key in self._ending:
            found.close()
            return False
        else:
            self.start(found)
        return True

    async def _asked(self, run: Run, deployment: Deployment, upstream_id: str, reply: Reply | None) -> bool:
        try:
            reply = reply or await ask(self._client, deployment, upstream_id)
        except Gone:
            moment = asyncio.get_running_loop().time()
            run.missing_since = moment if run.missing_since is None else run.missing_since
            if moment - run.missing_since < self._upstream_settle:
                return False
            return await self._fail(run, LOST)
        run.missing_since = None
        return reply is not None and is_word(reply, upstream_id) and await self._heard(run, reply)

    async def _heard(self, run: Run, reply: Reply) -> bool:
        """Commit upstream's word, if it is a new one; whether that was the last."""
        ended = outcomes.is_terminal(outcomes.status_of(reply.body))
        said = crc32(reply.raw)
        if said == run.said and not ended:
            return False
        record = await self._open(run)
        if record is None:
            return True
        await self._take_over.word(record, reply)
        run.said = said
        if ended:
            await self.upstream_copy.delete_if_deleted(run.key)
        return ended

    async def _given_up(self, run: Run, deployment: Deployment, upstream_id: str) -> bool:
        """End what takes too long, unless upstream has ended it meanwhile."""
        reply = None
        with suppress(Gone):
            reply = await ask(self._client, deployment, upstream_id)
        status = "" if reply is None else outcomes.status_of(reply.body)
        if reply is not None and status != "cancelled" and outcomes.is_terminal(status):
            return await self._heard(run, reply)
        return await self._fail(run, GIVEN_UP, reply)

    async def _cancelled(self, deployment: Deployment, upstream_id: str) -> Reply | None:
        try:
            return await cancel(self._client, deployment, upstream_id)
        except ServiceError as error:
            logger.info("upstream did not cancel %s: %s", upstream_id, error)
            return None

    async def _fail(self, run: Run, verdict: Verdict, reply: Reply | None = None) -> bool:
        record = await self._open(run)
        if record is not None:
            logger.warning("%s is given the verdict %r", ids.to_text(run.key), verdict[0])
            so_far = await self._take_over.so_far(record, None if reply is None else reply.body)
            await self._take_over.end(record, failed(so_far, verdict))
        return True

    async def _open(self, run: Run) -> Record | None:
        """The record, if it is open and still held here."""
        found = await self._store.find_held(run.key)
        if found is None or found[0].terminal or found[0].owner_id != self._process:
            return None
        return found[0]
