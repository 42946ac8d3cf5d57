"""Following a list: what comes to match filters, in whichever order interactions end.

An interaction has its place in a list by when it began, and may end, and so come to match, long after younger ones.
Those that run are therefore kept in mind, and looked for when they run no longer: once more, or for some minutes where
the filters ask for what is derived later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from service.cli.api import Api, Json, Parameters, Refused, Unreachable
from service.cli.listing import listed
from service.wire import ids

_POLL: Final = 1.0
#: Seconds until a service that cannot be asked is asked again, unless it says another time.
_RETRY: Final = 2.0
#: Refusals that say something of the moment; below 500 all others say something of the request.
_PASSING: Final = (408, 425, 429)
_RUNNING: Final = ("in_progress", "queued")
#: How long an interaction may take to be seen after it began, or after it ended in the way that is asked for.
_LATE: Final = timedelta(seconds=10)
#: The same where texts or costs are asked for, which are derived from it behind the hot path.
_DERIVED_LATE: Final = timedelta(minutes=10)
_DERIVED: Final = frozenset(("q", "cost", "min_cost", "max_cost"))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT: Final = timedelta(milliseconds=1)
#: Filters that an interaction matches from its beginning on, or never; labels are others.
_FROM_THE_BEGINNING: Final = frozenset(
    (
        "project",
        "key_id",
        "stream",
        "background",
        "store",
        "model_requested",
        "agent",
        "chain",
        "previous_interaction_id",
        "replay_of",
        "to",
    )
)


class Following:
    """What ends and matches filters from the moment on in which :meth:`begin` is called.

    ``notice`` is told when the service cannot be asked for a while, and when it can be again.
    """

    def __init__(self, api: Api, filters: Parameters, notice: Callable[[str], None]) -> None:
        self._api = api
        self._notice = notice
        self._filters = [(name, value) for name, value in filters if name != "from"]
        self._lasting = [
            pair for pair in self._filters if pair[0] in _FROM_THE_BEGINNING or pair[0].startswith("label")
        ]
        derived = any(name in _DERIVED for name, _ in self._filters)
        self._late = _DERIVED_LATE if derived else _LATE
        #: How long what has run longer than that is looked for after its end.
        self._patience = _DERIVED_LATE if derived else timedelta(0)
        self._since = datetime.now(UTC)
        self._running: dict[str, datetime] = {}
        #: What runs no longer: when it began, and until when it is looked for.
        self._awaited: dict[str, tuple[datetime, datetime]] = {}
        self._told: dict[str, datetime] = {}

    async def begin(self) -> None:
        """Look at what there is."""
        self._running = await self._now_running()
        newest = await self._newest()
        self._since = (datetime.now(UTC) if newest is None else newest) - self._late
        self._told = {one["id"]: _moment(one) for one in await self._ended(self._since)}

    async def news(self, seen: Sequence[Json]) -> AsyncIterator[list[Json]]:
        """What has ended, beside what was ``seen`` after the beginning; some at a time, without an end.

        A service that cannot be reached is waited for; raises :class:`~service.cli.api.Failed` when it refuses what is
        asked.
        """
        self._told |= {one["id"]: _moment(one) for one in seen if one["status"] not in _RUNNING}
        while True:
            await asyncio.sleep(_POLL)
            if found := await self._look_when_possible():
                yield found

    async def _look_when_possible(self) -> list[Json]:
        is_lost = False
        while True:
            began = datetime.now(UTC)
            try:
                found = await self._look()
            except (Refused, Unreachable) as error:
                if isinstance(error, Refused) and not _is_passing(error):
                    raise
                if not is_lost:
                    self._notice(
                        f"warning: {error.message.removesuffix('.')}; it is asked again until it answers"
                    )
                is_lost = True
                await asyncio.sleep(_pause(error))
                self._grant(datetime.now(UTC) - began)
                continue
            if is_lost:
                self._notice("the service answers again")
            return found

    def _grant(self, lost: timedelta) -> None:
        """Look longer for what is derived late: a service that is away derives nothing."""
        self._awaited = {name: (moment, until + lost) for name, (moment, until) in self._awaited.items()}

    async def _look(self) -> list[Json]:
        # In this order: what ends meanwhile is found here, or is among those that have ended at the next look.
        running, newest = await self._now_running(), await self._newest()
        found = await self._ended(self._since)
        at = datetime.now(UTC)
        ended = {name: moment for name, moment in self._running.items() if name not in running}
        self._awaited |= {name: (moment, at + self._patience) for name, moment in ended.items()}
        for moment, _ in self._awaited.values():
            if moment < self._since:
                found += await self._ended(moment, moment + _INSTANT)
        seen = {one["id"] for one in found}
        self._awaited = {
            name: (moment, until)
            for name, (moment, until) in self._awaited.items()
            if name not in seen and until > at
        }
        news = {one["id"]: one for one in found if one["id"] not in self._told}
        if newest is not None:
            self._since = max(self._since, newest - self._late)
        told = {**self._told, **{name: _moment(one) for name, one in news.items()}}
        self._told = {name: moment for name, moment in told.items() if moment >= self._since}
        self._running = running
        return sorted(news.values(), key=_moment)

    async def _newest(self) -> datetime | None:
        found = await listed(self._api, [*self._lasting, ("order", "desc")], 1)
        return _moment(found[0]) if found else None

    async def _now_running(self) -> dict[str, datetime]:
        asked = [*self._lasting, ("status", ",".join(_RUNNING)), ("order", "asc")]
        return {one["id"]: _moment(one) for one in await listed(self._api, asked, None)}

    async def _ended(self, since: datetime, until: datetime | None = None) -> list[Json]:
        """What matches of those that began within a time and have ended."""
        filters = self._filters
        times = [("from", _text(since))]
        if until is not None:
            filters = [(name, value) for name, value in filters if name != "to"]
            times.append(("to", _text(until)))
        found = await listed(self._api, [*filters, *times, ("order", "asc")], None)
        return [one for one in found if one["status"] not in _RUNNING]


def _is_passing(error: Refused) -> bool:
    return error.status >= 500 or error.status in _PASSING


def _pause(error: Refused | Unreachable) -> float:
    asked = error.retry_after if isinstance(error, Refused) else None
    return _RETRY if asked is None else max(asked, _POLL)


def _moment(one: Json) -> datetime:
    """The time in the id, by which lists are sorted and bounded."""
    key = ids.from_text(one["id"])
    milliseconds = 0 if key is None else ids.created_at(key)
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
