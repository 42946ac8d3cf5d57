"""Import: lines of an export become the rows that they were made from, in this database or another one.

What was exported while it was still running is replaced by its end when that is imported; nothing else that is there
is changed. The whole of a call is one transaction, and another one for the ends of what others have brought in open in
that moment; it can be repeated without harm. What is derived (search, roll-ups, costs) is derived anew by the indexer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import literal, select

from service.audit.reading_lines import Brought, rows_of_line
from service.errors import InvalidRequest, PermissionDenied
from service.interactions.calls import Principal
from service.interactions.media import files_named
from service.store import bringing_in, media
from service.store.entries import Write
from service.store.media import content_digest, uri_digest
from service.store.records import now
from service.store.reports import Reports
from service.store.store import Store
from service.store.tables import REQUEST_PAYLOAD, RESPONSE_PAYLOAD, Key, interactions
from service.wire import ids

_KEYS_AT_ONCE: Final = 500
_PLACE: Final = re.compile(r": line \d+ column \d+ \(char \d+\)")


@dataclass(frozen=True, slots=True)
class Told:
    """How many interactions were new, were there already, and were left out because their chains lead astray."""

    imported: int
    known: int
    left_out: int


class Importer:
    """Takes in lines."""

    def __init__(self, store: Store, reports: Reports) -> None:
        self._store = store
        self._reports = reports

    async def lines(self, principal: Principal, data: bytes, first: int = 1) -> Told:
        """Commit the interactions of some lines, of which the first is number ``first`` of whatever they are out of.

        Raises :class:`InvalidRequest` naming the first line that is none of an export, :class:`PermissionDenied` for
        another project's, which only the master key may bring in.
        """
        brought = await asyncio.to_thread(_read, data, first)
        for one in brought:
            if principal.key_id is not None and one.project_id != principal.project_id:
                raise PermissionDenied(
                    f"The interaction {ids.to_text(one.id)!r} belongs to the project {one.project!r}; only the master "
                    "key may import for other projects."
                )
        if not brought:
            return Told(0, 0, 0)
        known, ended = await self._known(brought)
        await self._bring_in(brought, ended, known)
        new = [one for one in brought if one.id not in known]
        there, ended = await self._known(new)
        if ended:
            # Somebody else has brought these in open since they were looked for.
            await self._bring_in([one for one in new if one.id in ended], ended, known)
            there, _ = await self._known(new)
        return Told(len(there), len(known), len(new) - len(there))

    async def _bring_in(
        self, brought: Sequence[Brought], ended: Mapping[bytes, bytes], known: Set[bytes]
    ) -> None:
        new = [one.id for one in brought if one.id not in known]
        await self._store.bring_in(_writes(brought, ended), new)

    async def _known(self, brought: Sequence[Brought]) -> tuple[set[bytes], dict[bytes, bytes]]:
        """Those that are there, but for those that are there open and come with their ends: these by their holders."""
        with_end = {one.id for one in brought if one.completed_at is not None}
        known: set[bytes] = set()
        ended: dict[bytes, bytes] = {}
        columns = (interactions.c.id, interactions.c.completed_at, interactions.c.owner_id)
        for start in range(0, len(brought), _KEYS_AT_ONCE):
            some = [literal(one.id, Key) for one in brought[start : start + _KEYS_AT_ONCE]]
            async with self._reports.reading() as reading:
                rows = await reading.fetch(select(*columns).where(interactions.c.id.in_(some)))
            for key, completed_at, owner_id in rows:
                if completed_at is None and bringing_in.is_holder(owner_id) and key in with_end:
                    ended[key] = owner_id
                else:
                    known.add(key)
        return known, ended


def _read(data: bytes, first: int) -> list[Brought]:
    brought: dict[bytes, Brought] = {}
    for number, line in enumerate(data.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            one = rows_of_line(line)
        except InvalidRequest as error:
            # Where in the line JSON's parser stopped would be told as of a line 1.
            raise InvalidRequest(f"Line {number}: {_PLACE.sub('', error.message)}") from error
        if one is not None and not _is_older(one, brought.get(one.id)):
            brought[one.id] = _of_own(one)
    for one in brought.values():
        parent = None if one.previous_id is None else brought.get(one.previous_id)
        if parent is not None and parent.depth >= one.depth:
            raise InvalidRequest(
                f"The interaction {ids.to_text(one.id)!r} does not follow {ids.to_text(parent.id)!r}: its "
                "'interaction.depth' is not larger."
            )
    return list(brought.values())


def _is_older(one: Brought, other: Brought | None) -> bool:
    """Whether a line tells of a time before the end that another one has."""
    return one.completed_at is None and other is not None and other.completed_at is not None


def _of_own(one: Brought) -> Brought:
    """The same without media that its bodies do not name.

    Media are looked up by the digests of their URIs alone, so nobody may bring in one for a URI of somebody else.
    """
    if not one.media:
        return one
    try:
        files = [file for _, file in files_named(one.request, one.response)]
    except InvalidRequest:
        files = []
    named = {uri_digest(one.project_id, file.canonical) for file in files}
    return replace(one, media=tuple(kept for kept in one.media if kept.uri_digest in named))


def _living_on(brought: Sequence[Brought], ended: Mapping[bytes, bytes]) -> list[Write]:
    """Those who hold what comes in open live on; those whose end comes live no longer than until it is written."""
    lives = dict.fromkeys(ended.values(), 0)
    for one in brought:
        if one.completed_at is None:
            lives[one.owner_id] = bringing_in.life_of(one.owner_id)
    return [(bringing_in.LIVE_ON, place) for place in sorted(lives.items())]


def _writes(brought: Sequence[Brought], ended: Mapping[bytes, bytes]) -> list[Write]:
    moment = now()
    projects = {one.project_id: one.project for one in brought if one.project is not None}
    writes: list[Write] = [(bringing_in.BRING_ROW, one.row) for one in brought]
    for one in brought:
        if (holder := ended.get(one.id)) is not None:
            writes += _ending(one, holder)
    writes += _living_on(brought, ended)
    writes += [(bringing_in.BRING_PROJECT, (key, name, moment)) for key, name in projects.items()]
    for one in brought:
        owner: tuple[Any, ...] = (one.project_id, one.completed_at)
        for kind, body in ((REQUEST_PAYLOAD, one.request), (RESPONSE_PAYLOAD, one.response)):
            if body is not None:
                writes.append((bringing_in.BRING_BODY, (one.id, body, kind, *owner)))
        for event in one.events:
            place = (event.first_seq, event.last_seq, event.upstream_cursor, event.timings)
            writes.append((bringing_in.BRING_EVENTS, (one.id, event.frames, *place, *owner)))
        writes += _media_writes(one, moment)
    return writes


def _ending(one: Brought, holder: bytes) -> list[Write]:
    """What replaces an open import of the same interaction, if it is still held by the same."""
    told = dict(zip(bringing_in.ROW, one.row, strict=True))
    place = (*(told[name] for name in bringing_in.ENDED), holder)
    return [
        (bringing_in.DROP_BODIES, place),
        (bringing_in.DROP_EVENTS, place),
        (bringing_in.REPLACE_ROW, (*one.row, holder)),
    ]


def _media_writes(one: Brought, moment: int) -> list[Write]:
    writes: list[Write] = []
    for kept in one.media:
        content_id = content_digest(one.project_id, kept.body)
        named = (one.id, kept.uri_digest, content_id, kept.mime_type, kept.kept_at)
        writes += (
            (media.KEEP_CONTENT, (content_id, len(kept.body), kept.body, moment)),
            (media.TOUCH_CONTENT, (content_id, moment)),
            (bringing_in.BRING_REFERENCE, (*named, one.project_id, one.completed_at)),
        )
    return writes
