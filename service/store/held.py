"""Who holds what, as the domain sees it: be alive, take over, hand back; and the usage that upstream still owes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from service.errors import ServiceUnavailable
from service.store import event_log, holding, usage
from service.store.backend import Backend, StoreUnavailable
from service.store.clock import CLOCK
from service.store.entries import Write
from service.store.records import Usage, now
from service.store.remit import Remit
from service.store.statement import Fetch, Query
from service.store.tables import NOBODY
from service.store.writer import Writer

_PATIENCE = 10.0
_FIRST_KEY = bytes(16)


class Claim(NamedTuple):
    """An open interaction that this process has taken over."""

    id: bytes
    project_id: bytes
    created_at: int
    stream: bool
    background: bool
    deployment_id: str
    upstream_id: str | None
    upstream_stored: bool


class Held:
    """Reads and writes of who holds what; every method raises :class:`~service.errors.ServiceUnavailable`.

    ``me`` is a process; times are microseconds since the epoch, and those of processes by the database's clock.
    """

    def __init__(self, backend: Backend, fetch: Fetch, writer: Writer) -> None:
        self._backend = backend
        self._fetch = fetch
        self._writer = writer

    @property
    def alone_since(self) -> bytes | None:
        """A key that parts processes which can only be dead from those that may live; None when it is not known."""
        return self._backend.alone_since

    @property
    def has_hints(self) -> bool:
        """Whether hints reach other processes."""
        return self._backend.has_hints

    async def clock(self) -> int:
        """The time now."""
        ((moment,),) = await self._fetch(CLOCK, {})
        return int(moment)

    async def enter(self, me: bytes, until: int) -> None:
        """Begin to live until then."""
        await self._writer.put((holding.ENTER, (me, until)), (holding.ENTER, (NOBODY, 0)), patience=_PATIENCE)

    async def beat(self, me: bytes, lease: int, *, vouches_until: int = 0, apart: bool = False) -> int | None:
        """Go on living for so long; the time now, or None when this process is not known any more, or has left.

        When it arrives by ``vouches_until``, it says as well that this process takes whoever is silent for dead now.
        With ``apart`` nothing that hangs holds it up.
        """
        rows = await self._take(holding.BEAT, apart=apart, me=me, lease=lease, vouches_until=vouches_until)
        return rows[0][0] if rows else None

    async def enter_again(self, me: bytes, lease: int, *, apart: bool = False) -> int | None:
        """Begin to live again for so long, as who was forgotten; the time now, or None for who has left."""
        rows = await self._take(holding.ENTER_AGAIN, apart=apart, me=me, lease=lease)
        return rows[0][0] if rows else None

    async def others_judge(self, me: bytes, spare: int) -> bool:
        """Whether another process that lives for so long at least takes whoever is silent for dead now."""
        return bool(await self._fetch(holding.JUDGES, {"me": me, "spare": spare}))

    async def shorten(self, longest: int, *, apart: bool = False) -> None:
        """Let no process live longer than until then, unless it says so again: the clock was set back since it did."""
        await self._take(holding.SHORTEN, apart=apart, longest=longest)

    async def expire_earlier(self, key: bytes, beyond: int) -> None:
        """Declare every process dead whose own key is smaller, or which says that it lives beyond that time.

        No process that begins now says so: the clock was set back since.
        """
        await self._take(holding.EXPIRE_EARLIER, before=key, beyond=beyond)

    async def forget_dead(self, silent_since: int) -> None:
        """Forget processes that have been silent since then and hold nothing."""
        await self._take(holding.FORGET_DEAD, now=silent_since)

    async def forget_vain_wishes(self) -> None:
        """Forget that somebody wanted to cancel what has ended meanwhile."""
        await self._take(event_log.FORGET_VAIN_WISHES)

    async def is_alive(self, process: bytes, moment: int) -> bool:
        """Whether a process is alive at this moment."""
        return bool(await self._fetch(holding.ALIVE, {"id": process, "now": moment}))

    async def claim(self, me: bytes, remit: Remit, silent_since: int, most: int) -> list[Claim]:
        """Take over what is in this remit, and held by processes that have been silent since then."""
        sought = {"me": me, "now": silent_since, **remit._asdict()}
        if not await self._fetch(holding.LEFT_BEHIND, sought):
            return []
        return _claims(await self._take(holding.CLAIM, most=most, **sought))

    async def claim_one(self, me: bytes, remit: Remit, silent_since: int, key: bytes) -> Claim | None:
        """Take one interaction over, if it is in this remit and whoever holds it has been silent since then."""
        told = remit._asdict()
        found = _claims(await self._take(holding.CLAIM_ONE, me=me, now=silent_since, id=key, most=1, **told))
        return found[0] if found else None

    async def held(self, me: bytes, *, apart: bool = False) -> set[bytes]:
        """The open interactions of this process. With ``apart`` nothing that hangs holds this up."""
        keys: set[bytes] = set()
        after = _FIRST_KEY
        while page := await self._page_held(me, after, apart=apart):
            keys.update(key for (key,) in page)
            after = page[-1][0]
            if len(page) < holding.PAGE:
                break
        return keys

    async def _page_held(self, me: bytes, after: bytes, *, apart: bool) -> Sequence[Sequence[Any]]:
        if apart:
            return await self._take(holding.HELD, apart=True, me=me, after=after)
        return await self._fetch(holding.HELD, {"me": me, "after": after})

    async def claimed_again(self, me: bytes, key: bytes) -> Claim | None:
        """An open interaction of this process; None when it is not any more."""
        found = _claims(await self._fetch(holding.CLAIMED_AGAIN, {"me": me, "id": key}))
        return found[0] if found else None

    async def hand_back(self, me: bytes, keys: Sequence[bytes]) -> None:
        """Give these up, for any process to take at once."""
        if keys:
            writes: list[Write] = [(holding.HAND_BACK, (key, me, NOBODY)) for key in keys]
            await self._writer.put(*writes, patience=_PATIENCE)

    async def leave(self, me: bytes) -> int:
        """End: give up everything that is open, and be dead. Returns how much was open."""
        # An intent may still be written for a caller that is gone.
        await self.drained()
        released = await self._take(holding.RELEASE, me=me)
        # Who is forgotten at once leaves what is written even later to nobody: only what the dead hold is claimed.
        await self._take(holding.LEAVE, me=me)
        return len(released)

    async def drained(self) -> None:
        """Return when everything that was handed in to be written before is written, or never will be."""
        # NOBODY is known since the first process began, so this only waits for its place among the writes.
        await self._writer.put((holding.ENTER, (NOBODY, 0)), patience=_PATIENCE, last=True)

    async def usage_due(self, remit: Remit, pause: int, most: int) -> list[tuple[bytes, int]]:
        """Take interactions in this remit whose usage is to be asked for now, each with how often it was taken.

        Each is due again after ``pause`` microseconds, times the square of its tries.
        """
        rows = await self._take(usage.TAKE_USAGE, now=now(), pause=pause, most=most, **remit._asdict())
        return [(key, tries) for key, tries in rows]

    async def settle_usage(self, key: bytes, told: Usage, response: bytes | None) -> None:
        """Make usage final that was missing, with the response that shows it; changes nothing that is final."""
        size = None if response is None else len(response)
        writes: list[Write] = [
            (usage.SETTLE_USAGE, (key, now(), size, *told)),
            (usage.FORGET_USAGE, (key,)),
        ]
        if response is not None:
            writes.append((usage.SETTLE_RESPONSE, (key, response)))
        await self._writer.put(*writes, patience=_PATIENCE)

    async def forget_usage(self, key: bytes) -> None:
        """Ask no more: upstream does not tell."""
        await self._writer.put((usage.FORGET_USAGE, (key,)), patience=_PATIENCE)

    async def hint(self, topic: str) -> bool:
        """Tell every process on the database; may be lost, never raises. Whether the database has taken it."""
        return await self._backend.announce(topic)

    def on_hint(self, callback: Callable[[str], None]) -> None:
        """Call this back with every hint, from whichever process."""
        self._backend.on_news(callback)

    async def _take(self, query: Query, *, apart: bool = False, **parameters: Any) -> Sequence[Sequence[Any]]:
        try:
            return await self._backend.take(query, parameters, apart=apart)
        except StoreUnavailable as error:
            raise ServiceUnavailable("The store cannot be written now.", retry_after=1) from error


def _claims(rows: Sequence[Sequence[Any]]) -> list[Claim]:
    return [
        Claim(key, project, created, bool(stream), bool(background), deployment, upstream_id, bool(stored))
        for key, project, created, stream, background, deployment, upstream_id, stored in rows
    ]
