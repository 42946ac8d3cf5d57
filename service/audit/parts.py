"""Parts of an export: some interactions with everything that they have, read in one snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, bindparam, select

from service.audit import conditions
from service.audit.dialect import Dialect
from service.audit.dialects import dialect_of
from service.audit.filters import Filters
from service.audit.late_figures import Figures, LateFigures, places_in
from service.audit.lines import COLUMNS, EventRow, MediaRow, Whole
from service.audit.lookups import Lookup, Lookups
from service.errors import StoreError
from service.store import inputs
from service.store.codec import Codec
from service.store.regions import whole_requests
from service.store.reports import Plan, Prepared, Reading, Reports, Rows
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

#: Interactions of one part.
AT_ONCE: Final = 512
#: The key comes first.
_NAMES: Final = (*COLUMNS, "project_id", "derived_state")
_PROJECT: Final = _NAMES.index("project_id")
_COST: Final = _NAMES.index("cost_nanos")
_DETAIL: Final = _NAMES.index("usage_detail")
_OF_LATE: Final = places_in(_NAMES)
_STREAM: Final = _NAMES.index("stream")
_BACKGROUND: Final = _NAMES.index("background")
_DELETED_AT: Final = _NAMES.index("deleted_at")
_FIRST: Final = itemgetter(0)
_FIRST_TWO: Final = itemgetter(0, 1)


@dataclass(frozen=True, slots=True)
class Part:
    """Some interactions as they are stored."""

    project: str | None
    rows: Rows
    bodies: Rows
    logs: Rows
    media: Rows
    #: Those whose requests are not stored whole, each with what it is put together from.
    based: Sequence[tuple[bytes, Rows]]

    def whole(self, packing: Codec) -> list[Whole]:
        """Each of them, unpacked; raises :class:`StoreError` for what is damaged."""
        unpacked = packing.unpack_all([(row[2], row[3], row[4]) for row in self.bodies])
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
        logs, kept = _events(self.logs, packing), _media(self.media)
        return [
            Whole(
                row,
                row[_PROJECT],
                self.project,
                requests.get(row[0]),
                responses.get(row[0]),
                logs.get(row[0], ()),
                damages.get(row[0]),
                kept.get(row[0], ()),
            )
            for row in self.rows
        ]


class PartReader:
    """Reads parts of what filters select in one project; with ``with_media``, kept media too."""

    def __init__(
        self,
        reports: Reports,
        late_figures: LateFigures,
        project_id: bytes,
        filters: Filters,
        *,
        with_media: bool,
    ) -> None:
        self._reports = reports
        self._late_figures = late_figures
        self._project_id = project_id
        self._filters = filters
        self._with_media = with_media
        self._known: tuple[_Statements, str | None] | None = None

    async def read(self, keys: Sequence[bytes]) -> Part:
        """Those of at most :data:`AT_ONCE` interactions, in order, that are selected still.

        Raises :class:`~service.errors.ServiceError`.
        """
        async with self._reports.reading() as reading:
            if self._known is None:
                self._known = await self._prepared(reading)
            await reading.plan(Plan.LOOK_UP_AGAIN)
            part = await _part(reading, *self._known, keys, with_media=self._with_media)
            late = await self._late_figures.of(reading, part.rows, _OF_LATE)
        return replace(part, rows=[_with_figures(row, late) for row in part.rows]) if late else part

    async def _prepared(self, reading: Reading) -> tuple[_Statements, str | None]:
        self._with_media = self._with_media and await has_media(reading)
        statements = _Statements(self._project_id, self._filters, dialect_of(reading))
        return statements, await _project_name(reading, self._project_id)


def _with_figures(row: Sequence[Any], late: Mapping[bytes, Figures]) -> Sequence[Any]:
    told = list(row)
    if (figures := late.get(row[0])) is not None:
        told[_COST], told[_DETAIL] = figures
    return told


async def _part(
    reading: Reading, statements: _Statements, project: str | None, keys: Sequence[bytes], *, with_media: bool
) -> Part:
    runs = await statements.lookups.runs(reading, keys)

    async def of(lookup: Lookup, keys: Sequence[bytes]) -> Rows:
        return await statements.lookups.rows(reading, lookup, keys, runs)

    rows = sorted(await of(statements.rows, keys), key=_FIRST)
    told = [row[0] for row in rows if row[_DELETED_AT] is None]
    # A run in the background has a log as well: it is followed by its stream where upstream has one.
    logged = [row[0] for row in rows if (row[_STREAM] or row[_BACKGROUND]) and row[_DELETED_AT] is None]
    return Part(
        project,
        rows,
        bodies=await of(statements.bodies, told),
        logs=sorted(await of(statements.logs, logged), key=_FIRST_TWO),
        media=sorted(await of(statements.media, told), key=_FIRST_TWO) if with_media else (),
        based=[
            (key, await reading.fetch_prepared(statements.base, {"id": key}))
            for (key,) in await of(statements.bases, told)
        ],
    )


class _Statements:
    """What is read of each part, compiled once for an export."""

    def __init__(self, project_id: bytes, filters: Filters, dialect: Dialect) -> None:
        self.lookups = Lookups(dialect)
        still = conditions.of_filters(filters, project_id)
        self.rows = self.lookups.of(interactions.c.id, _columns(interactions, *_NAMES), *still)
        self.bodies = self._by_key(payloads, "interaction_id kind codec size body")
        self.logs = self._by_key(
            events, "interaction_id first_seq last_seq codec size body upstream_cursor timings"
        )
        self.bases = self._by_key(inputs_table, "interaction_id", inputs_table.c.base_id.is_not(None))
        self.base = Prepared(inputs.REQUEST.select)
        told = _columns(media, "uri_digest", "mime_type", "kept_at")
        self.media = of_media(self.lookups, *told, media_contents.c.body)

    def _by_key(self, table: Table, names: str, *conditions: ColumnElement[bool]) -> Lookup:
        columns = _columns(table, *names.split())
        return self.lookups.of(table.c.interaction_id, columns, *conditions)


def _columns(table: Table, *names: str) -> list[ColumnElement[Any]]:
    return [table.c[name] for name in names]


def of_media(lookups: Lookups, *columns: ColumnElement[Any]) -> Lookup:
    """Columns of the kept media of some interactions, behind the keys of those."""
    content = (media_contents, media_contents.c.id == media.c.content_id)
    key = media.c.interaction_id
    return lookups.of(key, [key, *columns], joined=content)


async def has_media(reading: Reading) -> bool:
    """Whether any media are kept."""
    return bool(await reading.fetch(select(media.c.interaction_id).limit(1)))


def _events(logs: Rows, packing: Codec) -> dict[bytes, list[EventRow]]:
    frames = packing.unpack_all([(row[3], row[4], row[5]) for row in logs])
    found: dict[bytes, list[EventRow]] = defaultdict(list)
    for (key, first, last, *_, cursor, timings), body in zip(logs, frames, strict=True):
        found[key].append(EventRow(first, last, body, cursor, timings))
    return found


def _media(rows: Rows) -> dict[bytes, list[MediaRow]]:
    found: dict[bytes, list[MediaRow]] = defaultdict(list)
    for key, digest, mime_type, kept_at, body in rows:
        found[key].append(MediaRow(digest, mime_type, kept_at, body))
    return found


async def _project_name(reading: Reading, project_id: bytes) -> str | None:
    rows = await reading.fetch(
        select(projects.c.name).where(projects.c.id == bindparam(None, project_id, Key))
    )
    name: str | None = rows[0][0] if rows else None
    return name
