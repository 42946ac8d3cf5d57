"""One interaction in full, its conversation, and its events: what audit shows beyond lists.

Unlike ``GET /interactions/{id}``, this never asks upstream and shows what the caller did not want to be stored. Of a
deleted interaction it shows the figures alone, even while a follow-up still needs its content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, ColumnElement, Select, and_, literal, literal_column, select

from service.audit import gathering, summaries
from service.audit.late_figures import OF_SUMMARIES, LateFigures
from service.audit.summaries import seconds, timestamp
from service.errors import NotFound
from service.interactions import render
from service.store import aliases
from service.store.codec import Codec
from service.store.reports import Reading, Reports
from service.store.store import Store
from service.store.tables import RESPONSE_PAYLOAD, Key, interactions
from service.wire import codec, ids

#: Ancestors, and interactions below, that are told at once.
MOST_LINKS: Final = 1000
DEFAULT_EVENTS: Final = 1000
LARGEST_EVENTS: Final = 10_000
_DATA: Final = b"data: "
_ADDED: Final = ("usage_detail", "first_byte_at", "completed_at", "created_at", "attempts", "deleted_at")


class Details:
    """Tells about single interactions, within one project (promise P6)."""

    def __init__(self, reports: Reports, store: Store, packing: Codec, late_figures: LateFigures) -> None:
        self._reports = reports
        self._late_figures = late_figures
        self._store = store
        self._packing = packing

    async def interaction(self, project_id: bytes, reference: str) -> dict[str, Any]:
        """Everything that is stored of an interaction; raises :class:`NotFound`."""
        added = [interactions.c[name] for name in _ADDED]
        async with self._reports.reading() as reading:
            row = await _find(reading, project_id, reference, [*summaries.COLUMNS, *added])
            width = len(row) - len(added)
            more = dict(zip(_ADDED, row[width:], strict=True))
            key = row[0]
            late = (await self._late_figures.of(reading, [row], OF_SUMMARIES)).get(key)
            summary = summaries.of_row(row[:width], late and late.cost_nanos)
            detail = more["usage_detail"] if late is None else late.usage_detail
            shown = more["deleted_at"] is None
            bodies = await reading.fetch(gathering.bodies_of([key], RESPONSE_PAYLOAD)) if shown else ()
        request = await self._store.request_of(key) if shown else None
        response = None if not bodies else self._packing.unpack(bodies[0][2], bodies[0][3], bodies[0][4])
        return {
            **summary,
            "request": None if request is None else codec.loads(request),
            "response": None if response is None else _told(response, row),
            "attempts": _attempts(more["attempts"]),
            "timings": _timings(more),
            "usage": _usage(summary, detail),
            "links": _links(summary),
        }

    async def chain(self, project_id: bytes, reference: str) -> dict[str, Any]:
        """The interaction, those before it, oldest first, and all that follow it, in the order of time.

        Raises :class:`NotFound`. Of those before the nearest :data:`MOST_LINKS` are told, and of those after the first.
        """
        columns = summaries.COLUMNS
        async with self._reports.reading() as reading:
            row = await _find(reading, project_id, reference, columns)
            before = await reading.fetch(_above(project_id, columns, row[0]))
            after = await reading.fetch(_below(project_id, columns, row[0]))
            ancestors, (interaction,), descendants = [
                await self._late_figures.summaries(reading, rows)
                for rows in (before[:MOST_LINKS][::-1], [row], after[:MOST_LINKS])
            ]
        return {
            "ancestors": ancestors,
            "interaction": interaction,
            "descendants": descendants,
            "truncated": max(len(before), len(after)) > MOST_LINKS,
        }

    async def events(self, project_id: bytes, reference: str, *, after: int, limit: int) -> dict[str, Any]:
        """The recorded events behind one of them; ``next_after`` says where to go on, None at the end of the log.

        Raises :class:`NotFound`. What was not streamed has no events, and while it runs none yet.
        """
        async with self._reports.reading() as reading:
            columns = [interactions.c.id, interactions.c.deleted_at]
            key, deleted_at = await _find(reading, project_id, reference, columns)
        found: list[dict[str, Any]] = []
        page = None if deleted_at is not None else await self._store.events.after(key, after)
        while page is not None:
            found += [{"seq": event.seq, "event": _event(event.frame)} for event in page.events]
            if len(found) >= limit or not page.full:
                break
            page = await self._store.events.after(key, found[-1]["seq"])
        # What was deleted has no more, nor has what was deleted while it was read.
        more = page is not None and (page.full or len(found) > limit)
        found = found[:limit]
        ended = not more and (page is None or page.ended)
        return {
            "events": found,
            "next_after": None if ended else found[-1]["seq"] if found else after,
            "ended": ended,
        }


async def _find(
    reading: Reading, project_id: bytes, reference: str, columns: Sequence[ColumnElement[Any]]
) -> Sequence[Any]:
    """The row of an interaction by our id or by upstream's, deleted or not."""
    key = ids.from_text(reference)
    chosen = select(*columns).where(interactions.c.project_id == literal(project_id, Key))
    if key is not None:
        chosen = chosen.where(interactions.c.id == literal(key, Key))
    elif reference.isprintable():
        places = [literal(place, BigInteger) for place in aliases.places_of(reference).values()]
        chosen = chosen.where(
            interactions.c.upstream_id_hash.in_(places), interactions.c.upstream_id == reference
        ).order_by(interactions.c.created_at.desc())
    rows = await reading.fetch(chosen.limit(1)) if reference.isprintable() else ()
    if not rows:
        raise NotFound(f"There is no interaction {reference[:100]!r}.")
    return rows[0]


def _above(project_id: bytes, columns: Sequence[ColumnElement[Any]], key: bytes) -> Select[Any]:
    """Those before an interaction, the nearest first, and one more than are told."""
    first, above = interactions.alias("first"), interactions.alias("above")
    nearest = literal_column("1", BigInteger).label("distance")
    start = select(first.c.previous_id.label("id"), first.c.depth, nearest)
    walk = start.where(first.c.id == literal(key, Key)).cte("walk", recursive=True)
    # Each is less deep than the one before, so that the walk ends whatever the rows say.
    nearer = (
        above.c.id == walk.c.id,
        above.c.depth < walk.c.depth,
        walk.c.distance <= literal(MOST_LINKS, BigInteger),
    )
    step = select(above.c.previous_id, above.c.depth, walk.c.distance + nearest).where(*nearer)
    found = walk.union_all(step)
    less_deep = (interactions.c.id == found.c.id, interactions.c.depth < found.c.depth)
    chosen = select(*columns).select_from(found.join(interactions, and_(*less_deep)))
    chosen = chosen.where(interactions.c.project_id == literal(project_id, Key))
    return chosen.order_by(found.c.distance).limit(MOST_LINKS + 1)


def _below(project_id: bytes, columns: Sequence[ColumnElement[Any]], key: bytes) -> Select[Any]:
    """Those that follow an interaction, in the order of time, and one more than are told."""
    first, below = interactions.alias("first"), interactions.alias("below")
    start = select(first.c.id, first.c.depth).where(first.c.id == literal(key, Key))
    walk = start.cte("walk", recursive=True)
    # Each is deeper than the one before, so that the walk ends whatever the rows say.
    deeper = (below.c.previous_id == walk.c.id, below.c.depth > walk.c.depth)
    found = walk.union_all(select(below.c.id, below.c.depth).where(*deeper, below.c.erased_at.is_(None)))
    keys = select(found.c.id).where(found.c.id != literal(key, Key))
    chosen = select(*columns).where(
        interactions.c.id.in_(keys), interactions.c.project_id == literal(project_id, Key)
    )
    return chosen.order_by(interactions.c.id).limit(MOST_LINKS + 1)


def _told(response: bytes, row: Sequence[Any]) -> Any:
    body = codec.loads(response)
    if not isinstance(body, dict):
        return body
    key, previous = row[0], row[summaries.PREVIOUS]
    return render.with_our_ids(body, key, previous)


def _attempts(stored: str | None) -> list[dict[str, Any]]:
    attempts = [] if stored is None else orjson.loads(stored)
    return [
        {
            **attempt,
            **{name: timestamp(attempt[name]) for name in ("started", "adopted") if name in attempt},
            **({"duration": attempt["us"] / 1_000_000} if "us" in attempt else {}),
        }
        for attempt in attempts
    ]


def _timings(more: dict[str, Any]) -> dict[str, Any]:
    created = more["created_at"]
    return {
        "created": timestamp(created),
        "first_event": timestamp(more["first_byte_at"]),
        "completed": timestamp(more["completed_at"]),
        "to_first_event": seconds(created, more["first_byte_at"]),
        "to_completion": seconds(created, more["completed_at"]),
    }


def _usage(summary: dict[str, Any], detail: str | None) -> dict[str, Any] | None:
    """The totals, and what upstream told by modality."""
    totals = summary["usage"]
    if totals is None:
        return None
    modalities = gathering.modalities_of(detail)
    return {**totals, "modalities": modalities}


def _links(summary: dict[str, Any]) -> dict[str, str]:
    path = f"/api/interactions/{summary['id']}"
    links = {"self": path, "chain": f"{path}/chain", "events": f"{path}/events"}
    for name in ("previous_interaction_id", "replay_of"):
        if summary[name] is not None:
            links[name.removesuffix("_id")] = f"/api/interactions/{summary[name]}"
    return links


def _event(frame: bytes) -> Any:
    data = b"\n".join(line[len(_DATA) :] for line in frame.split(b"\n") if line.startswith(_DATA))
    return codec.loads(data)
