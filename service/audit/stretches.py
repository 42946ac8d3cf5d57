"""What filters lead to, one stretch of time after another, for who needs only the first of it.

Any number of terms can lead to it, and a stretch of time is read from all of them without more than it has. How long
one has to be, a sample of the first that the project has tells.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from service.audit import conditions, paging
from service.audit.wanted import Wanted
from service.store.reports import Plan, Reading
from service.wire import ids

#: What filters lead to is rare where it is less than one of so many of the first that the project has.
_RARE: Final = 4
_SAMPLE: Final = 1_000
#: Keys of one stretch, at most, and of all that others are looked for among.
_MOST: Final = 20_000
_MOST_AMONG: Final = 100_000
#: How many times as long a stretch is as the one before it, at most.
_GROWTH: Final = 16.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """From when to when the first are, in milliseconds since the epoch, and to how many of them the filters lead."""

    start: int
    end: int
    led: int


class Stretches:
    """The keys that the filters of a page lead to by some terms."""

    def __init__(self, reading: Reading, wanted: Wanted, led: Sequence[int]) -> None:
        self._reading = reading
        self._wanted = wanted
        self._led = led
        self._sample: _Sample | None = None
        self._forward = wanted.order == "asc"

    async def are_rare(self) -> bool:
        """Whether terms lead to what the filters mean, and the project has many more than that."""
        if not self._led:
            return False
        start, end = await self._key_ahead(self._wanted, 0), await self._key_ahead(self._wanted, _SAMPLE)
        if start is None or end is None:
            return await self._until(self._wanted, None, _MOST) is not None
        keys = await self._until(self._wanted, end, _MOST)
        if keys is None:
            return False
        self._sample = _Sample(ids.created_at(start), ids.created_at(end), len(keys))
        return _RARE * len(keys) <= _SAMPLE

    async def keys(self, about: int) -> AsyncIterator[list[bytes]]:
        """All of them in the order of the page, about so many at first; asked for after :meth:`are_rare`."""
        sample = self._sample
        opposite: Wanted = replace(self._wanted, after=None, order="desc" if self._forward else "asc")
        furthest = None if sample is None else await self._key_ahead(opposite, 0)
        if sample is None or furthest is None:
            if keys := await self._until(self._wanted, None):
                yield keys
            return
        ahead, place, end = self._wanted, sample.start, ids.created_at(furthest)
        span = (abs(sample.end - sample.start) + 1) * about / max(1, sample.led)
        while True:
            span = min(max(1.0, span), abs(end - place) + 1.0)
            edge = place + round(span) if self._forward else place - round(span)
            is_last = abs(edge - sample.start) > abs(end - sample.start)
            last = None if is_last else conditions.key_from(edge * 1000)
            keys = await self._until(ahead, last, _MOST)
            if keys is None and span > 1:
                span /= 4
                continue
            if keys is None:
                # No time is shorter.
                keys = await self._first(ahead, last)
                yield keys
                ahead = replace(ahead, after=keys[-1])
                continue
            if keys:
                yield keys
            if last is None:
                return
            ahead, place = replace(ahead, after=last), edge
            span *= min(_GROWTH, max(1.0, 2 * about / max(1, len(keys))))

    async def all(self, most: int) -> list[bytes] | None:
        """All of them in the order of the page; None where they are more than ``most``."""
        return await self._until(self._wanted, None, most)

    async def among(self, keys: list[bytes]) -> list[bytes]:
        """Those of these, which are in the order of the page; all of them where it leads to more than that is worth."""
        meant = await self._until(self._wanted, keys[-1], _MOST_AMONG)
        if meant is None:
            return keys
        led = set(meant)
        return [key for key in keys if key in led]

    async def _key_ahead(self, wanted: Wanted, many: int) -> bytes | None:
        await self._reading.plan(Plan.WALK)
        rows = await self._reading.fetch(paging.key_ahead(wanted, many))
        return rows[0][0] if rows else None

    async def _first(self, wanted: Wanted, last: bytes | None) -> list[bytes]:
        """Of more than so many keys as far as the last one the first, some fewer where some come twice."""
        first = replace(wanted, limit=_MOST)
        chosen = paging.keys_until(wanted, self._led, last)
        told = await self._reading.fetch(first.ordered(chosen, chosen.selected_columns[0]))
        return list(dict.fromkeys(key for (key,) in told))

    async def _until(self, wanted: Wanted, last: bytes | None, most: int | None = None) -> list[bytes] | None:
        """All keys as far as the last one; None where they are more than ``most``."""
        await self._reading.plan(Plan.LOOK_UP)
        chosen = paging.keys_until(wanted, self._led, last)
        told = await self._reading.fetch(chosen if most is None else chosen.limit(most + 1))
        if most is not None and len(told) > most:
            return None
        return sorted({key for (key,) in told}, reverse=not self._forward)
