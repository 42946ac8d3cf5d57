"""Export: everything that filters select, oldest first, read a part at a time so that memory does not grow with it.

Each part is a snapshot of its own: an interaction is told as it stood then, with its bodies and its log, and left out
if it is not selected any more. What is written meanwhile has larger keys and is exported when its turn comes. An
export goes on behind the last interaction that somebody has of it, by its id.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from operator import itemgetter
from typing import Any, Final, NamedTuple

from service.audit import conditions, cursors
from service.audit.dialects import dialect_of
from service.audit.filters import Filters
from service.audit.late_figures import LateFigures
from service.audit.lines import Whole
from service.audit.listing import read_candidates, read_page
from service.audit.lookups import Lookups
from service.audit.parts import AT_ONCE, PartReader, has_media, of_media
from service.errors import InvalidRequest
from service.store.codec import Codec
from service.store.reports import Plan, Prepared, Reading, Reports
from service.store.tables import interactions, media_contents
from service.wire import ids

#: Keys that are found at once.
_KEYS_AT_ONCE: Final = 4096
#: Bytes of what a part holds (but for a larger interaction alone).
_BYTES_AT_ONCE: Final = 3 * 512 * 1024
#: An interaction with all its columns, in bytes of memory.
_ROW: Final = 2048
#: How much larger the log of a stream is than the response that came of it, and what one that still runs is taken for.
_LOG_FACTOR: Final = 4
_RUNNING: Final = 64 * 1024
_ORDER: Final = "asc"
_LOOKED_AT: Final = ("id", "stream", "background", "request_bytes", "response_bytes")


class _Found(NamedTuple):
    """An interaction that was selected, and about how many bytes it has."""

    key: bytes
    size: int


class Export:
    """Exports the interactions of one project at a time (promise P6)."""

    def __init__(self, reports: Reports, packing: Codec, late_figures: LateFigures) -> None:
        self._reports = reports
        self._packing = packing
        self._late_figures = late_figures

    async def is_short(self, project_id: bytes, filters: Filters, after: str | None = None) -> bool:
        """Whether one part has everything that :meth:`parts` would read; raises as it does."""
        finder = _Finder(self._reports, project_id, filters)
        found, more = await finder.next(_key_of(after), AT_ONCE)
        return more is None and sum(one.size for one in found) <= _BYTES_AT_ONCE

    async def parts(
        self, project_id: bytes, filters: Filters, after: str | None = None, *, with_media: bool = True
    ) -> AsyncGenerator[list[Whole], None]:
        """Everything the filters select, behind the interaction with the id ``after``, some at a time.

        Raises as :meth:`keys` does.
        """
        reader = PartReader(self._reports, self._late_figures, project_id, filters, with_media=with_media)
        async with aclosing(self.keys(project_id, filters, after, with_media=with_media)) as found:
            async for keys in found:
                part = await reader.read(keys)
                # Whoever takes it may take long, and is not to hold a snapshot meanwhile.
                yield await asyncio.to_thread(part.whole, self._packing)

    async def keys(
        self, project_id: bytes, filters: Filters, after: str | None = None, *, with_media: bool = True
    ) -> AsyncGenerator[list[bytes], None]:
        """The keys of the same in order, so many at a time as make a part.

        Raises :class:`~service.errors.ServiceError`: :class:`InvalidRequest` for an id that is none.
        """
        finder = _Finder(self._reports, project_id, filters)
        if with_media:
            async with self._reports.reading() as reading:
                with_media = await has_media(reading)
        more = _key_of(after)
        while True:
            found, more = await finder.next(more, _KEYS_AT_ONCE)
            if with_media:
                found = await self._with_media_sizes(found)
            for keys in _bounded(found):
                yield keys
            if more is None:
                return

    async def _with_media_sizes(self, found: Sequence[_Found]) -> list[_Found]:
        if not found:
            return []
        sizes: dict[bytes, int] = defaultdict(int)
        keys = [one.key for one in found]
        async with self._reports.reading() as reading:
            await reading.plan(Plan.LOOK_UP_AGAIN)
            lookups = Lookups(dialect_of(reading))
            lookup = of_media(lookups, media_contents.c.size)
            for key, size in await lookups.rows(reading, lookup, keys, None):
                sizes[key] += size
        return [_Found(one.key, one.size + sizes.get(one.key, 0)) for one in found]


class _Finder:
    """Finds what filters select in one project."""

    def __init__(self, reports: Reports, project_id: bytes, filters: Filters) -> None:
        self._reports = reports
        self._project_id = project_id
        self._filters = filters
        self._columns = [interactions.c[name] for name in _LOOKED_AT]
        self._among: Prepared | None = None

    async def next(self, after: bytes | None, limit: int) -> tuple[list[_Found], bytes | None]:
        """What follows a key, out of at most ``limit``, and the key that there may be more behind."""
        async with self._reports.reading() as reading:
            keys = await read_candidates(reading, self._project_id, self._filters, after, limit)
            if keys is None:
                return await self._page(reading, after, limit)
            rows = await self._looked_at(reading, list(dict.fromkeys(keys)))
        return rows, keys[-1] if len(keys) == limit else None

    async def _looked_at(self, reading: Reading, keys: Sequence[bytes]) -> list[_Found]:
        """Those of some interactions that are selected."""
        if not keys:
            return []
        dialect = dialect_of(reading)
        if self._among is None:
            selected = conditions.of_filters(self._filters, self._project_id)
            self._among = dialect.by_keys(interactions.c.id, self._columns, *selected)
        await reading.plan(Plan.LOOK_UP_AGAIN)
        rows = await reading.fetch_prepared(self._among, dialect.keys(keys))
        return [_found(*row) for row in sorted(rows, key=itemgetter(0))]

    async def _page(
        self, reading: Reading, after: bytes | None, limit: int
    ) -> tuple[list[_Found], bytes | None]:
        about = _ORDER.encode() + self._project_id + self._filters.digest()
        cursor = None if after is None else cursors.write(after, about)
        page = await read_page(
            reading,
            self._columns,
            self._project_id,
            self._filters,
            order=_ORDER,
            limit=limit,
            cursor=cursor,
        )
        return [_found(*row) for row in page.rows], page.rows[-1][0] if page.next_cursor else None


def _key_of(after: str | None) -> bytes | None:
    """The key of an id; raises :class:`InvalidRequest` for what is none."""
    key = None if after is None else ids.from_text(after)
    if after is not None and key is None:
        raise InvalidRequest(
            f"The value {after[:100]!r} is invalid for 'cursor'. Expected the id of the last interaction that arrived "
            "whole (int_...)."
        )
    return key


def _found(
    key: bytes, stream: Any, background: Any, request_bytes: int | None, response_bytes: int | None
) -> _Found:
    size = _ROW + (request_bytes or 0) + (response_bytes or 0)
    if stream or background:
        size += _RUNNING if response_bytes is None else _LOG_FACTOR * response_bytes
    return _Found(key, size)


def _bounded(found: Sequence[_Found]) -> Iterator[list[bytes]]:
    """The keys, in parts that fit into memory."""
    part: list[bytes] = []
    size = 0
    for one in found:
        if part and (size + one.size > _BYTES_AT_ONCE or len(part) == AT_ONCE):
            yield part
            part, size = [], 0
        part.append(one.key)
        size += one.size
    if part:
        yield part
