"""Recorded replay: a request is answered by the interaction that was once made of an equal one, and by nothing else.

Upstream is never reached and nothing new is stored. Of several answers the first counts, so that what a request gets
does not change. Digests are made when a request finds no answer: most of the time there are few new ones, and where a
large store has none yet, they are made in the background while callers are told to come again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection
from typing import Final, Literal

from service.errors import NotRecorded, ServiceError, ServiceUnavailable
from service.interactions.calls import Call
from service.interactions.resolve import Resolver
from service.store.kept_recordings import Undigested, start_of_pass
from service.store.recordings import PAGE
from service.store.records import Record
from service.store.store import Store
from service.tasks import stop
from service.wire import canonical, codec

logger = logging.getLogger(__name__)

#: Seconds that a caller waits for digests to be made.
_PATIENCE: Final = 10.0
_AGAIN: Final = 5.0


Pace = Literal["recorded", "none"]
_ASKED: Final = re.compile(r"recorded(?:\s*;\s*pace\s*=\s*(recorded|none))?", re.IGNORECASE)
#: The name that stands for every project.
_ALL: Final = "*"


def asked_for(header: str) -> Pace | None:
    """The pace that a wish for a recorded answer names, ``recorded`` if none; None when it is no such wish."""
    found = _ASKED.fullmatch(header.strip())
    if found is None:
        return None
    return "none" if (found[1] or "").lower() == "none" else "recorded"


class Recorded:
    """Finds recorded answers; owns the task that makes digests.

    The projects with the names ``required`` get nothing but recorded answers.
    """

    def __init__(self, store: Store, required: Collection[str] = ()) -> None:
        self._store = store
        self._required = frozenset(required)
        self._resolver = Resolver(store)
        self._pass: asyncio.Task[None] | None = None

    @property
    def any_required(self) -> bool:
        """Whether there are projects that get nothing else."""
        return bool(self._required)

    async def pace(self, project_id: bytes, wish: Pace | None) -> Pace | None:
        """The pace of the answer to a request with this wish; None when the request is to go upstream."""
        if wish is not None or not self._required:
            return wish
        if _ALL in self._required:
            return "recorded"
        name = await self._store.project_name(project_id)
        return "recorded" if name in self._required else None

    async def pauses(self, record: Record) -> dict[int, int]:
        """The milliseconds before each event of a recording, by seq, where it was streamed."""
        pauses = await self._store.events.pauses(record.id)
        if record.first_byte_at is not None and record.stream:
            pauses[1] = max(record.first_byte_at - record.created_at, 0) // 1000
        return pauses

    async def find(self, call: Call) -> Record:
        """The interaction that answers this call.

        Raises :class:`NotRecorded` when there is none, :class:`~service.errors.NotFound` for an unknown
        ``previous_interaction_id``, and :class:`ServiceUnavailable` while digests are being made.
        """
        digest = await self._digest(call)
        found = await self._answer(call, digest)
        if found is None or found.stream != call.envelope.stream:
            await self._up_to_date()
            # What the request follows may have got its digest by this.
            digest = await self._digest(call)
            found = await self._answer(call, digest)
        if found is None:
            raise await self._not_recorded(call.principal.project_id, digest)
        return found

    async def _not_recorded(self, project_id: bytes, digest: bytes) -> NotRecorded:
        nothing = (
            f"No recorded interaction of this project answers this request (digest {digest.hex()}), and "
        )
        if await self.pace(project_id, None) is not None:
            why = "general_settings.recorded_projects has this project answered by recordings alone."
            how = "Record it in another one, and import it from there."
        else:
            why = "with 'x-replay: recorded' upstream is not asked."
            how = "Send it once without that header, then again."
        return NotRecorded(f"{nothing}{why} {how} What failed or was cancelled is no recording.")

    async def close(self) -> None:
        """Make no more digests; the next pass goes on where this one was."""
        if self._pass is not None:
            await stop(self._pass)

    async def _answer(self, call: Call, digest: bytes) -> Record | None:
        project_id = call.principal.project_id
        key = await self._store.recordings.find(project_id, digest, stream=call.envelope.stream)
        return None if key is None else await self._store.recall(project_id, key)

    async def _digest(self, call: Call) -> bytes:
        envelope, link = call.envelope, None
        if envelope.previous_interaction_id is not None:
            parent = await self._resolver.resolve(
                call.principal, envelope.previous_interaction_id, "previous_interaction_id"
            )
            link = await self._link(parent.id)
        return canonical.digest(call.principal.project_id, envelope.body, link)

    async def _link(self, parent: bytes) -> bytes:
        """What stands for the conversation before a request: the digest of what it follows, if that has one."""
        return await self._store.recordings.digest(parent) or parent

    async def _up_to_date(self) -> None:
        if self._pass is not None:
            # It may have gone past the place where the answer has come to be since.
            await self._passed(self._pass)
        if self._pass is None:
            self._pass = asyncio.get_running_loop().create_task(self._make(), name="digests")
        await self._passed(self._pass)

    async def _passed(self, task: asyncio.Task[None]) -> None:
        done, _ = await asyncio.wait((task,), timeout=_PATIENCE)
        if not done:
            raise ServiceUnavailable(
                "The digests of what is recorded are being made; try again.", retry_after=_AGAIN
            )
        if self._pass is task:
            self._pass = None
        task.result()

    async def _make(self) -> None:
        """Go through what has come since the last pass; parents have smaller keys and come first."""
        recordings = self._store.recordings
        mark = await recordings.mark()
        after = start_of_pass(mark)
        while page := await recordings.page(after):
            digests: dict[bytes, bytes] = {}
            for one in page:
                if not one.known and (digest := await self._digest_of(one, digests)) is not None:
                    digests[one.id] = digest
            after = page[-1].id
            if digests or mark is None or after > mark:
                position = max(mark or after, after)
                await recordings.add(digests, position, mark)
                mark = position
            if len(page) < PAGE:
                return

    async def _digest_of(self, one: Undigested, made: dict[bytes, bytes]) -> bytes | None:
        link = None
        if one.previous_id is not None:
            link = made.get(one.previous_id) or await self._link(one.previous_id)
        try:
            raw = await self._store.request_of(one.id)
            return None if raw is None else canonical.digest(one.project_id, codec.loads(raw), link)
        except ServiceUnavailable:
            raise
        except ServiceError as error:
            logger.info("a request can be no recording: %s", error)
            return None
