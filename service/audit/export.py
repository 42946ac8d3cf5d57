"""Export: everything that filters select, oldest first, read a part at a time so that memory does not grow with it.

Each part is a snapshot of its own: an interaction is told as it stood then, with its bodies and its log, and left out
if it is not selected any more. What is written meanwhile has larger keys and is exported when its turn comes. An
export goes on behind the last interaction that somebody has of it, by its id.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Executable, FromClause, Select, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY

from service.audit import conditions, cursors
from service.audit.filters import Filters
from service.audit.lines import COLUMNS, EventRow, MediaRow, Whole
from service.audit.listing import read_page
from service.errors import InvalidRequest, StoreError
from service.store import inputs
from service.store.codec import Codec
from service.store.regions import whole_requests
from service.store.reports import Prepared, Reading, Reports, Rows
from service.store.tables import (
    REQUEST_PAYLOAD,
    Key,
    events,
    interactions,
    media,
    media_contents,
    payloads,
    projects,
)
from service.store.tables import inputs as inputs_table
from service.wire import ids

#: Keys that are found at once.
_KEYS_AT_ONCE: Final = 4096
#: Interactions of one part, and bytes of what they hold (but for a larger one alone).
_AT_ONCE: Final = 512
_BYTES_AT_ONCE: Final = 3 * 1024 * 1024
#: An interaction with all its columns, in bytes of memory.
_ROW: Final = 2048
#: How much larger the log of a stream is than the response that came of it, and what one that still runs is taken for.
_LOG_FACTOR: Final = 4
_RUNNING: Final = 64 * 1024
_ORDER: Final = "asc"
#: The key comes first.
_NAMES: Final = (*COLUMNS, "project_id")
_NO_KEY: Final = bytes(16)
_KEY_NAMES: Final = tuple(f"key_{number}" for number in range(_AT_ONCE))


@dataclass(frozen=True, slots=True)
class _Found:
    """An interaction that was selected, and about how many bytes it has."""

    key: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some interactions with everything they have, as it was read in one snapshot."""

    project: str | None
    rows: Rows
    bodies: Rows
    logs: Rows
    media: Rows
    #: Those whose requests are not stored whole, each with what it is put together from.
    based: Sequence[tuple[bytes, Rows]]

    def unpacked(self, packing: Codec) -> Unpacked:
        """They with what is packed of them unpacked; raises :class:`StoreError` for what is damaged."""
        unpacked = packing.unpack_all([tuple(row[2:5]) for row in self.bodies])
        requests: dict[bytes, bytes] = {}
        responses: dict[bytes, bytes] = {}
        for (key, kind, *_), body in zip(self.bodies, unpacked, strict=True):
            (requests if kind == REQUEST_PAYLOAD else responses)[key] = body
        damages: dict[bytes, str] = {}
        for key, stored in self.based:
            try:
                requests |= whole_requests(inputs.stored_requests(stored, packing), (key,))
            except StoreError as error:
                requests.pop(key, None)
                damages[key] = error.message
        logs = _events(self.logs, packing)
        return Unpacked(self.project, self.rows, requests, responses, logs, _media(self.media), damages)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Some interactions, and by their keys what each of them has."""

    project: str | None
    rows: Rows
    requests: Mapping[bytes, bytes]
    responses: Mapping[bytes, bytes]
    logs: Mapping[bytes, list[EventRow]]
    media: Mapping[bytes, list[MediaRow]]
    damages: Mapping[bytes, str]

    def made(self) -> list[Whole]:
        """Each of them."""
        return [
            Whole(
                row,
                row[-1],
                self.project,
                self.requests.get(row[0]),
                self.responses.get(row[0]),
                self.logs.get(row[0], ()),
                self.damages.get(row[0]),
                self.media.get(row[0], ()),
            )
            for row in self.rows
        ]


class _Statements:
    """What is read of each part, compiled once for an export."""

    def __init__(self, project_id: bytes, filters: Filters, dialect: str) -> None:
        self._dialect = dialect
        columns = (interactions.c[name] for name in _NAMES)
        still = conditions.of_filters(filters, project_id)
        chosen = select(*columns).where(*self._of_keys(interactions.c.id), *still)
        self.rows = Prepared(chosen.order_by(interactions.c.id))
        self.bodies = Prepared(self._by_key(payloads, "interaction_id kind codec size body"))
        names = "interaction_id first_seq last_seq codec size body upstream_cursor timings"
        logs = self._by_key(events, names)
        self.logs = Prepared(logs.order_by(events.c.interaction_id, events.c.first_seq))
        self.bases = Prepared(
            select(inputs_table.c.interaction_id).where(
                *self._of_keys(inputs_table.c.interaction_id), inputs_table.c.base_id.is_not(None)
            )
        )
        self.base = Prepared(inputs.REQUEST.select)
        self.media_sizes = Prepared(self._of_media(media_contents.c.size))
        self.media = Prepared(
            self._of_media(media.c.uri_digest, media.c.mime_type, media.c.kept_at, media_contents.c.body)
        )

    def values(self, keys: Sequence[bytes]) -> dict[str, Any]:
        """The parameters for at most :data:`_AT_ONCE` keys, which are in order."""
        bounds = {"first": keys[0], "last": keys[-1]}
        if self._dialect == "postgresql":
            return {"keys": list(keys), **bounds}
        filled = [*keys, *[keys[-1]] * (_AT_ONCE - len(keys))]
        return {**dict(zip(_KEY_NAMES, filled, strict=True)), **bounds}

    def _of_keys(self, column: Any) -> tuple[Any, ...]:
        """That a column has one of the keys of :meth:`values`; the bounds tell PostgreSQL the partitions."""
        # With a value from the beginning: a statement that has lists of values is not compiled without.
        first, last = (bindparam(name, _NO_KEY, Key) for name in ("first", "last"))
        if self._dialect == "postgresql":
            # To plan a list of hundreds takes it longer than to find them.
            among = column == any_(bindparam("keys", [_NO_KEY], ARRAY(Key)))
        else:
            among = column.in_([bindparam(name, _NO_KEY, Key) for name in _KEY_NAMES])
        return (among, column >= first, column <= last)

    def _by_key(self, table: FromClause, names: str) -> Select[Any]:
        chosen = select(*(table.c[name] for name in names.split()))
        return chosen.where(*self._of_keys(table.c.interaction_id))

    def _of_media(self, *columns: Any) -> Executable:
        joined = media.join(media_contents, media_contents.c.id == media.c.content_id)
        chosen = select(media.c.interaction_id, *columns).select_from(joined)
        return chosen.where(*self._of_keys(media.c.interaction_id)).order_by(
            media.c.interaction_id, media.c.uri_digest
        )


class Export:
    """Exports the interactions of one project at a time (promise P6)."""

    def __init__(self, reports: Reports, packing: Codec) -> None:
        self._reports = reports
        self._packing = packing

    async def is_short(self, project_id: bytes, filters: Filters, after: str | None = None) -> bool:
        """Whether one part has everything that :meth:`parts` would read; raises as it does."""
        found, cursor = await self._page(project_id, filters, _cursor(project_id, filters, after), _AT_ONCE)
        return cursor is None and sum(one.size for one in found) <= _BYTES_AT_ONCE

    async def parts(
        self, project_id: bytes, filters: Filters, after: str | None = None, *, with_media: bool = True
    ) -> AsyncGenerator[list[Whole], None]:
        """Everything the filters select, behind the interaction with the id ``after``, some at a time.

        Raises as :meth:`read` does.
        """
        async with aclosing(self.read(project_id, filters, after, with_media=with_media)) as read:
            async for part in read:
                yield await asyncio.to_thread(_made, part, self._packing)

    async def read(
        self, project_id: bytes, filters: Filters, after: str | None = None, *, with_media: bool = True
    ) -> AsyncGenerator[Part, None]:
        """The same as it is stored: each part is still to be unpacked.

        Raises :class:`~service.errors.ServiceError`: :class:`InvalidRequest` for an id that is none.
        """
        cursor = _cursor(project_id, filters, after)
        async with self._reports.reading() as reading:
            statements = _Statements(project_id, filters, reading.dialect)
            name = await _project_name(reading, project_id)
            with_media = with_media and bool(await reading.fetch(select(media.c.interaction_id).limit(1)))
        while True:
            found, cursor = await self._page(project_id, filters, cursor, _KEYS_AT_ONCE)
            if with_media:
                found = await self._with_media_sizes(statements, found)
            for keys in _bounded(found):
                async with self._reports.reading() as reading:
                    part = await _part(reading, statements, name, keys, with_media=with_media)
                # Whoever takes it may take long, and is not to hold a snapshot meanwhile.
                yield part
            if cursor is None:
                return

    async def _page(
        self, project_id: bytes, filters: Filters, cursor: str | None, limit: int
    ) -> tuple[list[_Found], str | None]:
        columns = [interactions.c[name] for name in ("id", "stream", "request_bytes", "response_bytes")]
        async with self._reports.reading() as reading:
            page = await read_page(
                reading, columns, project_id, filters, order=_ORDER, limit=limit, cursor=cursor
            )
        return [_found(*row) for row in page.rows], page.next_cursor

    async def _with_media_sizes(self, statements: _Statements, found: Sequence[_Found]) -> list[_Found]:
        sizes: dict[bytes, int] = defaultdict(int)
        async with self._reports.reading() as reading:
            for start in range(0, len(found), _AT_ONCE):
                keys = [one.key for one in found[start : start + _AT_ONCE]]
                for key, size in await reading.fetch_prepared(
                    statements.media_sizes, statements.values(keys)
                ):
                    sizes[key] += size
        return [_Found(one.key, one.size + sizes.get(one.key, 0)) for one in found]


async def _part(
    reading: Reading, statements: _Statements, project: str | None, keys: Sequence[bytes], *, with_media: bool
) -> Part:
    """Those of some interactions that are selected still, in one snapshot."""

    async def of(statement: Prepared, keys: Sequence[bytes]) -> Rows:
        return _plain(await reading.fetch_prepared(statement, statements.values(keys))) if keys else ()

    rows = await of(statements.rows, keys)
    told = [row[0] for row in rows if row[_DELETED_AT] is None]
    streams = [row[0] for row in rows if row[_STREAM] and row[_DELETED_AT] is None]
    return Part(
        project,
        rows,
        bodies=await of(statements.bodies, told),
        logs=await of(statements.logs, streams),
        media=await of(statements.media, told) if with_media else (),
        based=[
            (key, _plain(await reading.fetch_prepared(statements.base, {"id": key})))
            for (key,) in await of(statements.bases, told)
        ],
    )


def _made(part: Part, packing: Codec) -> list[Whole]:
    return part.unpacked(packing).made()


def _plain(rows: Rows) -> Rows:
    """Rows that can be handed to another process."""
    return [tuple(row) for row in rows]


_STREAM: Final = _NAMES.index("stream")
_DELETED_AT: Final = _NAMES.index("deleted_at")


def _events(logs: Rows, packing: Codec) -> dict[bytes, list[EventRow]]:
    frames = packing.unpack_all([tuple(row[3:6]) for row in logs])
    found: dict[bytes, list[EventRow]] = defaultdict(list)
    for (key, first, last, *_, cursor, timings), body in zip(logs, frames, strict=True):
        found[key].append(EventRow(first, last, body, cursor, timings))
    return found


def _media(rows: Rows) -> dict[bytes, list[MediaRow]]:
    found: dict[bytes, list[MediaRow]] = defaultdict(list)
    for key, digest, mime_type, kept_at, body in rows:
        found[key].append(MediaRow(digest, mime_type, kept_at, body))
    return found


def _cursor(project_id: bytes, filters: Filters, after: str | None) -> str | None:
    if after is None:
        return None
    key = ids.from_text(after)
    if key is None:
        raise InvalidRequest(
            f"The value {after[:100]!r} is invalid for 'cursor'. Expected the id of the last interaction that arrived "
            "whole (int_...)."
        )
    return cursors.write(key, _ORDER.encode() + project_id + filters.digest())


def _found(key: bytes, stream: Any, request_bytes: int | None, response_bytes: int | None) -> _Found:
    size = _ROW + (request_bytes or 0) + (response_bytes or 0)
    if stream:
        size += _RUNNING if response_bytes is None else _LOG_FACTOR * response_bytes
    return _Found(key, size)


def _bounded(found: Sequence[_Found]) -> Iterator[list[bytes]]:
    """The keys, in parts that fit into memory."""
    part: list[bytes] = []
    size = 0
    for one in found:
        if part and (size + one.size > _BYTES_AT_ONCE or len(part) == _AT_ONCE):
            yield part
            part, size = [], 0
        part.append(one.key)
        size += one.size
    if part:
        yield part


async def _project_name(reading: Reading, project_id: bytes) -> str | None:
    rows = await reading.fetch(
        select(projects.c.name).where(projects.c.id == bindparam(None, project_id, Key))
    )
    name: str | None = rows[0][0] if rows else None
    return name
