"""Whatever is not finished is somebody's: one supervisor per process takes what is left behind, and lets go of its own.

It claims what dead processes hold, follows what is open here to its end, hears what others ask of this process, and
hands everything back when the process stops. What comes of an interaction is committed by the process that holds it and
by no other; a client may ask any process, which lets the holder look at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from service.errors import ServiceError
from service.interactions.cancellations import Cancellations
from service.interactions.deadlines import Deadlines
from service.interactions.late_usage import LateUsage
from service.interactions.life import Life
from service.interactions.log import EventLog
from service.interactions.polling import Polling
from service.interactions.reader import Reader
from service.interactions.readers import Readers
from service.interactions.run import Pacing, Run, jittered, spread
from service.interactions.schedule import Schedule
from service.store.backend import MISSED
from service.store.held import Claim, Held
from service.store.kept_events import CANCEL
from service.store.records import Record, now
from service.store.store import Store
from service.tasks import stop
from service.wire import ids

logger = logging.getLogger(__name__)

#: What hints are about: something was handed back, or a client asks for an interaction (its id follows).
DUE: Final = "due"
LOOK: Final = "look "
#: Seconds between two looks for what this process holds and has forgotten about, and how old that must be.
_STRAYS: Final = 60.0
#: Microseconds after which a process that is silent and holds nothing is forgotten.
_FORGOTTEN: Final = 24 * 3600 * 1_000_000
#: Seconds, and how many times, that a client's question waits for the answer of the process that holds the interaction.
_LOOKED: Final = 0.05
_LOOKS: Final = 10
#: Seconds that it waits for upstream's answer; after that the store's last word is told.
_PATIENCE: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """How much one process does at a time; intervals in seconds."""

    claim_interval: float
    claim_batch: int
    concurrency: int
    poll_rate: float
    streams: int
    pacing: Pacing
    #: Whether several upstreams are asked, so that none of them may hold up the others.
    shared: bool = False


class Supervisor:
    """One per process; owns the tasks that claim and follow."""

    def __init__(
        self,
        life: Life,
        store: Store,
        readers: Readers,
        events: EventLog,
        polling: Polling,
        late_usage: LateUsage,
        deadlines: Deadlines,
        supervision: Supervision,
    ) -> None:
        self._life = life
        self._store = store
        self._held: Held = store.held
        self._readers = readers
        self._events = events
        self._polling = polling
        self._late_usage = late_usage
        self._deadlines = deadlines
        self._how = supervision
        self._loop = asyncio.get_running_loop()
        self._streams: set[bytes] = set()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fetching: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stopping = False
        self._swept_at = self._loop.time()
        self.cancellations = Cancellations(life, readers, polling)
        self.schedule = Schedule(
            polling.poll,
            concurrency=supervision.concurrency,
            rate=supervision.poll_rate,
            shared=supervision.shared,
        )
        polling.room = lambda: len(self._streams) < supervision.streams and not self._stopping
        polling.start = self._read
        readers.on_end = self._reader_ended
        life.on_late = self._verify
        life.on_judging = self._news.set

    async def start(self) -> None:
        """Live, and take up what was left behind; raises :class:`~service.errors.ServiceUnavailable`."""
        self._held.on_hint(self._hear)
        await self._life.begin()
        self._watching = self._loop.create_task(self._watch(), name="supervisor")

    def follow(self, claim: Claim, delay: float | None = None, ends_at: float | None = None) -> None:
        """Follow an open interaction that this process holds to its end.

        ``ends_at`` is when it is given up, by the loop's clock, where this process has reckoned that before.
        """
        if self._stopping:
            return
        may_stream = claim.background or claim.stream
        if delay is None:
            streams_now = may_stream and self._polling.room()
            delay = 0.0 if streams_now else jittered(self._how.pacing.first)
        if ends_at is None:
            ends_at = self._loop.time() + self.remaining(claim.created_at, claim.deployment_id)
        self.schedule.add(Run(claim, self._how.pacing.first, may_stream, ends_at), delay)

    def remaining(self, created_at: int, deployment_id: str) -> float:
        """The seconds that an interaction has until it is given up, by the clock that it was created by."""
        return self._deadlines.remaining(created_at, deployment_id)

    async def look(self, record: Record) -> None:
        """See that upstream's latest word on an open interaction is in the store, as far as that is possible now."""
        if self._readers.feed(record.id) is not None:
            return
        if await self.secure(record):
            run = self.schedule.get(record.id)
            if run is not None:
                await self.schedule.at_once(run, _PATIENCE)
            return
        await self._held.hint(LOOK + record.id.hex())
        for _ in range(_LOOKS):
            await asyncio.sleep(_LOOKED)
            found = await self._store.find(record.project_id, record.id)
            if found is None or found.terminal or found.updated_at != record.updated_at:
                return

    async def secure(self, record: Record) -> bool:
        """Whether this process holds an open interaction, if need be from now on, because its holder is dead."""
        if record.owner_id == self._life.id:
            return True
        if self._stopping or await self._held.is_alive(record.owner_id, self._life.clock):
            return False
        await self._life.sure()
        silent_since = self._life.silent_since
        claim = await self._held.claim_one(self._life.id, self._deadlines.remit(), silent_since, record.id)
        if claim is not None:
            await self._take_up([claim])
            return True
        # This process may have taken it over by itself in the same moment.
        return await self._held.claimed_again(self._life.id, record.id) is not None

    async def is_left(self, record: Record) -> bool:
        """Whether nobody holds an open interaction who is alive."""
        return not await self._held.is_alive(record.owner_id, self._life.clock)

    async def hand_over(self) -> None:
        """The process is to stop: what runs in upstream's background is for others from now on; never raises."""
        self._stopping = True
        if self._watching is not None:
            await stop(self._watching)
        await self.schedule.close()
        await self._readers.stop_background()
        try:
            await self._events.written()
            await self._events.flushed()
            await self._held.drained()
            # The table knows also what was being claimed when the process was told to stop.
            held = await self._held.held(self._life.id)
            left = held - self._readers.keys() - self._life.working
            await self._held.hand_back(self._life.id, sorted(left))
            await self._held.hint(DUE)
        except ServiceError as error:
            logger.warning("open interactions are handed back later: %s", error)

    async def close(self) -> None:
        """Give up everything that is still open; the readers have stopped."""
        await stop(*self._tasks)
        await self._life.end()
        await self._held.hint(DUE)

    def _read(self, reader: Reader) -> None:
        self._streams.add(reader.feed.key)
        self._readers.start(reader)

    def _reader_ended(self, reader: Reader, *, stopped: bool) -> None:
        self._streams.discard(reader.feed.key)
        may_be_deleted = reader.job.intent.background or reader.job.abandoned
        if not reader.left_open and may_be_deleted and not self._stopping:
            self._spawn(self._polling.upstream_copy.delete_if_deleted(reader.feed.key))
        if reader.left_open and not stopped:
            job = reader.job
            claim = job.claim(reader.feed.upstream_id, upstream_stored=job.intent.upstream_stored)
            self.follow(claim, jittered(self._how.pacing.first), reader.ends_at)

    def _hear(self, topic: str) -> None:
        if topic.startswith(LOOK):
            with suppress(ValueError):
                run = self.schedule.get(bytes.fromhex(topic.removeprefix(LOOK)))
                if run is not None and not self._stopping:
                    self._spawn(self.schedule.at_once(run))
        elif topic in (DUE, CANCEL, MISSED):
            self._news.set()

    def _spawn(self, work: Coroutine[None, None, Any]) -> None:
        self._keep(self._loop.create_task(work, name="errand"))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch_usage(self) -> None:
        """Ask for usage that is owed: upstream may take long to answer, and nothing waits for that."""
        try:
            await self._late_usage.fetch_due()
        except ServiceError as error:
            logger.warning("usage that upstream still owes cannot be looked for: %s", error)
        except Exception:
            logger.exception("usage that upstream still owes could not be fetched")

    async def _watch(self) -> None:
        while True:
            try:
                await self._round()
            except ServiceError as error:
                logger.warning("what was left behind cannot be looked for: %s", error)
            except Exception:
                logger.exception("the supervisor failed in a way that was not foreseen, and goes on")
            with suppress(TimeoutError):
                async with asyncio.timeout(jittered(self._how.claim_interval)):
                    await self._news.wait()
            self._news.clear()

    async def _round(self) -> None:
        await self._claim()
        for key in await self._store.events.to_cancel():
            self._cancel(key)
        if self._fetching is None or self._fetching.done():
            self._fetching = self._loop.create_task(self._fetch_usage(), name="late-usage")
            self._keep(self._fetching)
        if self._loop.time() - self._swept_at > _STRAYS:
            self._swept_at = self._loop.time()
            await self._find_strays()
            await self._held.forget_dead(self._life.clock - _FORGOTTEN)
            await self._held.forget_vain_wishes()

    async def _claim(self) -> None:
        most = self._how.claim_batch
        while True:
            # What this process has lost is let go before it can come back, and its own silence is known after that.
            await self._life.sure()
            # What was handed back is anybody's at once; the dead are judged only by who was not silent itself.
            silent_since = self._life.silent_since
            claims = await self._held.claim(self._life.id, self._deadlines.remit(), silent_since, most)
            await self._take_up(claims, spread)
            if claims:
                logger.info("%d open interactions of other processes are taken over", len(claims))
            if len(claims) < most:
                return

    async def _take_up(
        self, claims: Sequence[Claim], delayed: Callable[[float], float] | None = None
    ) -> None:
        """Follow what was claimed; what this process had lost and has not let go yet begins anew."""
        known = self._readers.keys() | self.schedule.keys()
        again = {claim.id for claim in claims} & known
        # What is being created here goes on as if it had never been lost: nothing of it was told yet.
        new = [claim for claim in claims if claim.id not in known | self._life.working]
        for claim in new:
            self.follow(claim, delayed and delayed(self._how.pacing.first))
        await self._let_go(again)
        for claim in claims:
            if claim.id in again:
                self.follow(claim, delayed and delayed(self._how.pacing.first))

    def _cancel(self, key: bytes) -> None:
        run = self.schedule.get(key)
        if run is not None:
            run.cancel_wished = True
            self._spawn(self.schedule.at_once(run))
        elif self._readers.feed(key) is not None:
            self._spawn(self.cancellations.as_wished(key))
        elif self.cancellations.waits_for(key):
            self._spawn(self.cancellations.cancel_late(key))

    async def _verify(self) -> None:
        """Let go of what others have taken over while this process was silent."""
        # What is begun meanwhile is missing in the answer and was not lost.
        known = self._readers.keys() | self.schedule.keys()
        lost = known - await self._life.held()
        # What has just ended here is open no more and was not lost; an end that comes too late is refused anyway.
        await self._let_go(lost - self._readers.concluding())

    async def _let_go(self, keys: Set[bytes]) -> None:
        """Stop what is done for these here, and wait until nothing of that can be written any more."""
        if keys:
            await self.schedule.drop(keys)
            await self._readers.drop(keys)
            await self._held.drained()

    def _is_stray(self, key: bytes) -> bool:
        return not any(
            key in known for known in (self.schedule.keys(), self._readers.keys(), self._life.working)
        )

    async def _find_strays(self) -> None:
        """Take up what this process holds though nothing here works on it: an outcome that could not be written."""
        before = now() // 1000 - int(_STRAYS * 1000)
        for key in await self._held.held(self._life.id):
            if self._is_stray(key) and ids.created_at(key) < before:
                claim = await self._held.claimed_again(self._life.id, key)
                # Somebody here may have taken it up meanwhile.
                if claim is not None and self._is_stray(key):
                    logger.warning("%s was left open here, and is taken up again", ids.to_text(key))
                    self.follow(claim, spread(self._how.pacing.first))
