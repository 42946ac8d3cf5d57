"""Creates with an idempotency key: the first makes the interaction, and every other one gets it.

Who is first is decided by the store, in the transaction of the intent. Whoever is not, in this process or another,
waits for what comes of the first: it is read back from the store, or followed live. Waiting takes a place among what
runs at a time. A process that dies leaves its interaction to whoever gives it an end, and its key with it: nothing is
ever sent a second time to find out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

import orjson

from service.errors import Aborted, IdempotencyKeyReused, NotFound, ServiceError, UpstreamError
from service.interactions.calls import Answer, Call, HistoryUsed, Served
from service.interactions.create import Creator
from service.interactions.feed import Feed
from service.interactions.lifecycle import Lifecycle
from service.interactions.listening import Listening, Streams
from service.interactions.readers import Readers
from service.store.idempotency import KeyClaim, KeyTaken
from service.store.records import Record, now
from service.store.store import Store
from service.upstream.routing.gate import Gate
from service.wire import ids
from service.wire.idempotency_key import fingerprint

logger = logging.getLogger(__name__)

#: What a hint between processes is about: a create with a key has come to its end.
ANSWERED: Final = "answered"
#: Seconds between two looks for what another process does, without a hint.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
#: A larger request is hashed in a thread, so that the loop is not held up.
_IN_THREAD_BYTES: Final = 256 * 1024

_Made = asyncio.Future[bytes | None]


@dataclass(frozen=True, slots=True)
class _First:
    """The first create with a key while it runs here; ``made`` tells its interaction, None when it has none."""

    fingerprint: bytes
    made: _Made


class Repeats:
    """One per process.

    ``retention`` is how many seconds a key is kept, ``patience`` for how many the outcome of a first is waited for.
    """

    def __init__(
        self,
        store: Store,
        creator: Creator,
        readers: Readers,
        streams: Streams,
        lifecycle: Lifecycle,
        *,
        gate: Gate,
        retention: float,
        patience: float,
    ) -> None:
        self._store = store
        self._creator = creator
        self._readers = readers
        self._streams = streams
        self._lifecycle = lifecycle
        self._gate = gate
        self._retention = int(retention * 1e6)
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._firsts: dict[tuple[bytes, str], _First] = {}
        self._announcing: set[asyncio.Task[None]] = set()
        #: Those who wait for news of an interaction.
        self._waiting: defaultdict[bytes, set[asyncio.Event]] = defaultdict(set)
        store.events.on_news_of(ANSWERED, self._hear)

    async def create(self, call: Call, key: str) -> Feed | Answer | Listening:
        """What comes of the create that has this key, be it this one or an earlier one.

        Raises what that one was refused with, :class:`IdempotencyKeyReused` when it asked for something else,
        :class:`Aborted` when it takes too long, :class:`ServiceUnavailable` when too many run or wait already, and
        :class:`NotFound` when its interaction was deleted.
        """
        wanted = await _fingerprint(call)
        place = (call.principal.project_id, key)
        deadline = self._loop.time() + min(self._patience, call.wishes.timeout or self._patience)
        while True:
            first = self._firsts.get(place)
            if first is not None:
                _check(key, wanted, first.fingerprint)
                made = await self._made(first, deadline)
                if made is not None:
                    return await self._again(call, made, deadline)
                continue
            bound = await self._store.keys.find(*place)
            if bound is not None:
                _check(key, wanted, bound.fingerprint)
                return await self._again(call, bound.interaction_id, deadline)
            if place not in self._firsts:
                try:
                    return await self._try(call, place, wanted)
                except KeyTaken:
                    continue

    async def close(self) -> None:
        """Let the last hints go out."""
        if self._announcing:
            await asyncio.wait(self._announcing)

    async def _try(self, call: Call, place: tuple[bytes, str], wanted: bytes) -> Feed | Answer:
        """Be the first; raises :class:`KeyTaken` when another process is."""
        moment = now()
        claimed = call._replace(claim=KeyClaim(place[1], wanted, moment, moment + self._retention))
        first = self._firsts[place] = _First(wanted, self._loop.create_future())
        made: bytes | None = None
        try:
            if call.envelope.stream:
                result = await self._creator.stream(claimed)
            else:
                result = await self._creator.create(claimed)
            made = result.key if isinstance(result, Feed) else ids.from_text(result.id)
            return result
        except ServiceError as error:
            if error.interaction_id is not None:
                made = ids.from_text(error.interaction_id)
            raise
        finally:
            del self._firsts[place]
            first.made.set_result(made)
            if made is not None:
                self._announce(made)

    async def _made(self, first: _First, deadline: float) -> bytes | None:
        with self._gate.place():
            done, _ = await asyncio.wait((first.made,), timeout=deadline - self._loop.time())
        if not done:
            raise _still_running(None)
        return first.made.result()

    async def _again(self, call: Call, made: bytes, deadline: float) -> Answer | Listening:
        """What has come of an interaction, in the way the caller asks for it; raises what it was refused with."""
        found = await self._look(call, made)
        if found is not None:
            return found
        news = asyncio.Event()
        self._waiting[made].add(news)
        try:
            with self._gate.place():
                return await self._awaited(call, made, deadline, news)
        finally:
            self._waiting[made].discard(news)
            if not self._waiting[made]:
                del self._waiting[made]

    async def _awaited(
        self, call: Call, made: bytes, deadline: float, news: asyncio.Event
    ) -> Answer | Listening:
        pause = _FIRST_PAUSE
        while True:
            news.clear()
            found = await self._look(call, made)
            if found is not None:
                return found
            remaining = deadline - self._loop.time()
            if remaining <= 0:
                raise _still_running(made)
            heard = await _heard(news, min(pause, remaining))
            # The first events of a stream come soon after the hint that it was opened.
            pause = _FIRST_PAUSE if heard else min(2 * pause, _LONGEST_PAUSE)

    async def _look(self, call: Call, made: bytes) -> Answer | Listening | None:
        """What has come of an interaction so far; None when that cannot be told yet."""
        feed = self._readers.feed(made) if call.envelope.stream else None
        if feed is not None:
            return _replayed(self._streams.live(feed))
        record = await self._store.recall(call.principal.project_id, made)
        if record is None:
            raise _deleted(made)
        if call.envelope.stream and await self._is_stream(record):
            # Where whoever read it has died, upstream is asked for the rest at once.
            record, _ = await self._lifecycle.told(record)
            return _replayed(self._streams.whole(record), record)
        if record.terminal or (record.response is not None and not call.envelope.stream):
            return await self._answer(record)
        return None

    async def _is_stream(self, record: Record) -> bool:
        if await self._store.events.last(record.id):
            return True
        if record.terminal:
            # Ended by whoever took it over. What upstream refused, or has not made a stream of, is an answer.
            return record.response is None and not _is_refused(record)
        # Left before its first event.
        return record.response is not None

    async def _answer(self, record: Record) -> Answer:
        if _is_refused(record):
            raise _refusal(record)
        record, told = await self._lifecycle.told(record)
        return Answer(told, record.upstream_id, _history_of(record), _served(record), replayed=True)

    def _announce(self, made: bytes) -> None:
        task = self._loop.create_task(self._store.events.announce(ANSWERED, made), name="answered")
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    def _hear(self, made: bytes) -> None:
        for news in self._waiting.get(made, ()):
            news.set()


async def _fingerprint(call: Call) -> bytes:
    if len(call.raw) > _IN_THREAD_BYTES:
        return await asyncio.to_thread(fingerprint, call.envelope.body)
    return fingerprint(call.envelope.body)


def _check(key: str, wanted: bytes, known: bytes) -> None:
    if wanted != known:
        raise IdempotencyKeyReused(
            f"The Idempotency-Key {key!r} belongs to a request with another body. Send the same body again, or another "
            "key with this one."
        )


async def _heard(news: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await news.wait()
    except TimeoutError:
        return False


def _replayed(listening: Listening, record: Record | None = None) -> Listening:
    listening.replayed = True
    if record is not None:
        listening.history, listening.served = _history_of(record), _served(record)
    return listening


def _served(record: Record) -> Served:
    attempts = orjson.loads(record.attempts) if record.attempts else []
    return Served(record.deployment_id, len(attempts))


def _history_of(record: Record) -> HistoryUsed:
    """How upstream was given the conversation, as the record has it."""
    attempts: list[dict[str, Any]] = orjson.loads(record.attempts) if record.attempts else []
    source = attempts[-1].get("history") if attempts else None
    if record.previous_id is None or source is None:
        return HistoryUsed("none", 0)
    return HistoryUsed("rebuilt" if source == "rebuilt" else "upstream", record.depth)


def _is_refused(record: Record) -> bool:
    return record.terminal and record.response is None and (record.http_status or 0) >= 400


def _refusal(record: Record) -> ServiceError:
    error = UpstreamError(
        record.http_status or 500, record.error_code or "api_error", record.error_message or ""
    )
    error.interaction_id = ids.to_text(record.id)
    error.deployment, error.attempts = _served(record).deployment, _served(record).attempts
    error.replayed = True
    return error


def _still_running(made: bytes | None) -> ServiceError:
    error = Aborted(
        "The first request with this Idempotency-Key has not come to its end yet. Send it again later, with the same "
        "key.",
        retry_after=1,
    )
    error.interaction_id = None if made is None else ids.to_text(made)
    return error


def _deleted(made: bytes) -> ServiceError:
    return NotFound(
        f"The interaction {ids.to_text(made)!r} that this Idempotency-Key has made was deleted. Send another key to "
        "make a new one."
    )
