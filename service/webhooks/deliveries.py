"""Delivers what is due: claimed from the database, tried, and reported there, until each receiver has taken its event.

An event is delivered at least once: who dies between a receiver's answer and its report leaves the claim to run out,
and the receiver is told again under the same ``webhook-id``. A receiver that fails is told again after pauses that
double, with chance in them, for ``retry_for`` seconds from the outcome on; 410 (Gone) ends that at once. No receiver
holds up the others: only a few are being told at a time behind one origin.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom
from typing import Final

from service.errors import ServiceError
from service.store.kept_webhooks import Delivery, Ended, KeptWebhooks
from service.store.records import now
from service.webhooks import secrets
from service.webhooks.origins import Origins
from service.webhooks.sender import Answer, Sender
from service.webhooks.signing import Signing
from service.wire import ids, webhooks

logger = logging.getLogger(__name__)

#: Seconds between two looks at the database without news: what another process left is found then.
_LOOK: Final = 2.0
#: Tries at a time behind one origin at most, and the share of all tries that they may be.
_PER_ORIGIN: Final = 8
_SHARE: Final = 4
#: Seconds for which those are put aside that get no turn.
_ASIDE: Final = (1.0, 5.0)
#: Seconds that a look gets to end when the process stops.
_LAST_LOOK: Final = 5.0
_LONGEST_PAUSE: Final = 3_600.0
_SECOND: Final = 1_000_000
_GONE: Final = 410
_CHANCE: Final = SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long receivers are waited for, in seconds: one try, the first pause, all tries together.

    ``lease`` is how much longer than a try a claim lasts, which another process waits for when this one dies.
    """

    timeout: float
    lease: float
    first_pause: float
    retry_for: float

    def pause(self, tries: int) -> float:
        """The pause after so many failed tries."""
        longest = min(self.first_pause * 2.0 ** min(tries - 1, 40), _LONGEST_PAUSE)
        return _CHANCE.uniform(0.5, 1.0) * longest


class Deliveries:
    """One per process; owns the tasks that deliver, at most ``concurrency`` at a time."""

    def __init__(
        self,
        store: KeptWebhooks,
        signing: Signing,
        sender: Sender,
        patience: Patience,
        *,
        concurrency: int,
    ) -> None:
        self._store = store
        self._signing = signing
        self._sender = sender
        self._patience = patience
        self._concurrency = concurrency
        self._running: set[asyncio.Task[None]] = set()
        self._origins = Origins(
            most=max(1, min(_PER_ORIGIN, concurrency // _SHARE)), slow=patience.timeout / 2
        )
        self._stopping = False
        self._look: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for what is due."""
        self._look = asyncio.get_running_loop().create_task(self._keep_looking(), name="webhooks")

    async def close(self) -> None:
        """Stop; what is being tried is handed back, so that another process tries it at once."""
        self._stopping = True
        self._store.news.set()
        if self._look is not None:
            # What it claims at this moment has to be handed back as well.
            await asyncio.wait((self._look,), timeout=_LAST_LOOK)
            self._look.cancel()
        await asyncio.sleep(0)
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _keep_looking(self) -> None:
        while not self._stopping:
            self._store.news.clear()
            try:
                pause = await self._begin()
            except ServiceError as error:
                logger.warning("webhooks wait for the store: %s", error)
                pause = _LOOK
            except Exception:
                logger.exception("webhooks could not be looked for")
                pause = _LOOK
            try:
                async with asyncio.timeout(pause):
                    await self._store.news.wait()
            except TimeoutError:
                pass

    async def _begin(self) -> float:
        """Begin what is due, as far as there is room; the seconds until there may be more."""
        room = self._concurrency - len(self._running)
        if room <= 0:
            return _LOOK
        next_due = await self._store.next_due()
        if next_due is None or (wait := (next_due - now()) / _SECOND) >= _LOOK:
            return _LOOK
        if wait > 0:
            return wait
        claimed = await self._store.claim(
            now() + int((self._patience.timeout + self._patience.lease) * _SECOND), room
        )
        for delivery in claimed:
            task = asyncio.get_running_loop().create_task(self._deliver(delivery), name="webhook")
            self._running.add(task)
            task.add_done_callback(self._done)
        return 0.0 if claimed else _LOOK

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        # There is room for another one.
        self._store.news.set()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            turn = await self._origins.take(delivery.uri)
            if turn is None:
                await self._store.hand_back(delivery, now() + int(self._aside(delivery) * _SECOND))
                return
            try:
                await self._try(delivery)
            finally:
                turn.end()
        except asyncio.CancelledError:
            await self._hand_back_now(delivery)
            raise
        except ServiceError as error:
            # The claim runs out, and it is tried again.
            logger.warning("a webhook of %s waits for the store: %s", _name(delivery), error)
        except Exception:
            logger.exception("a webhook of %s could not be tried", _name(delivery))

    def _aside(self, delivery: Delivery) -> float:
        if self._origins.is_slow(delivery.uri):
            # Its turn comes with the end of a try at the soonest.
            return _CHANCE.uniform(0.5, 2.0) * self._patience.timeout
        return _CHANCE.uniform(*_ASIDE)

    async def _try(self, delivery: Delivery) -> None:
        ended = await self._store.ended(delivery.interaction_id)
        if ended is None:
            # Deleted: there is nobody to be told any more.
            await self._store.settle(delivery, None, "the interaction was deleted")
            return
        answer = await self._send(delivery, ended)
        if answer.acknowledged:
            await self._store.settle(delivery, answer.status, None)
            return
        due_at = now() + int(self._patience.pause(delivery.tries + 1) * _SECOND)
        last = ended.completed_at + int(self._patience.retry_for * _SECOND)
        if answer.status == _GONE or due_at > last:
            logger.warning("a webhook of %s is given up: the receiver %s", _name(delivery), answer.error)
            await self._store.settle(delivery, answer.status, answer.error)
        else:
            logger.info("a webhook of %s is tried again: the receiver %s", _name(delivery), answer.error)
            await self._store.put_off(delivery, due_at, answer.status, answer.error)

    async def _send(self, delivery: Delivery, ended: Ended) -> Answer:
        name = _name(delivery)
        moment = datetime.fromtimestamp(ended.completed_at // _SECOND, UTC)
        body = webhooks.event(
            name, ended.status, moment.strftime("%Y-%m-%dT%H:%M:%SZ"), delivery.user_metadata
        )
        signing = await self._signing.secrets(ended.project_id)
        headers = secrets.headers(signing, webhooks.event_id(name), body, datetime.now(UTC))
        time = asyncio.get_running_loop().time
        began = time()
        answer = await self._sender.send(delivery.uri, headers, body)
        self._origins.note(delivery.uri, time() - began)
        return answer

    async def _hand_back_now(self, delivery: Delivery) -> None:
        try:
            await self._store.hand_back(delivery, now())
        except ServiceError as error:
            logger.warning(
                "a webhook of %s is taken up again when its claim ends: %s", _name(delivery), error
            )


def _name(delivery: Delivery) -> str:
    return ids.to_text(delivery.interaction_id)
