"""Lists of interactions: newest or oldest first, a page at a time, by keyset.

A page is what follows a key in the order of keys, which is that of time; what is written meanwhile moves nothing, since
nobody's place depends on how many come before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import ColumnElement, literal, select

from service.audit import conditions, cursors, filling_in, paging, summaries, terms, words
from service.audit.courtesy import Courtesy
from service.audit.dialects import dialect_of
from service.audit.filters import ANY, Filters
from service.audit.late_figures import LateFigures
from service.audit.snippets import Snippets
from service.audit.wanted import Order, Wanted
from service.audit.words import Search
from service.errors import InvalidRequest
from service.store.records import now
from service.store.reports import Plan, Reading, Reports
from service.store.tables import Key, api_keys, interactions, search_documents
from service.wire import ids

DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 1000
#: The newest matches, of which the best are told first.
MOST_RANKED: Final = 200
_SNIPPETS_AT_ONCE: Final = 50
#: Of orders, in what cursors are checked against: those of versions that counted how much was told are none of these.
_NAMES: Final[dict[str, str]] = {"rank": "rest of a rank"}
_KEY: Final = 16
_DIGEST: Final = 5


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a list in order, and the cursor behind them if there are more."""

    rows: Sequence[Sequence[Any]]
    next_cursor: str | None


class Listing:
    """Lists the interactions of one project at a time (promise P6); beside callers who write, one list after the other.

    ``written`` tells how many writes callers have waited for so far.
    """

    def __init__(self, reports: Reports, late_figures: LateFigures, written: Callable[[], int] = int) -> None:
        self._reports = reports
        self._late_figures = late_figures
        self._courtesy = Courtesy(written)

    async def summaries(
        self, project_id: bytes, filters: Filters, *, order: Order, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of summaries and the cursor behind it; raises :class:`~service.errors.ServiceError`."""
        async with self._courtesy.turn(), self._reports.reading() as reading:
            page = await read_page(
                reading, summaries.COLUMNS, project_id, filters, order=order, limit=limit, cursor=cursor
            )
            found = await self._late_figures.summaries(reading, page.rows)
            if filters.text is not None:
                await _add_snippets(reading, words.parse(filters.text), found)
        return found, page.next_cursor


async def _add_snippets(reading: Reading, search: Search, found: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(found), _SNIPPETS_AT_ONCE):
        some = {summary["id"]: summary for summary in found[start : start + _SNIPPETS_AT_ONCE]}
        keys = [literal(ids.from_text(name), Key) for name in some]
        texts = select(search_documents.c.interaction_id, search_documents.c.input, search_documents.c.output)
        rows = await reading.fetch(texts.where(search_documents.c.interaction_id.in_(keys)))
        snippets = await asyncio.to_thread(_snippets_of, search, rows)
        for key, snippet in snippets:
            some[ids.to_text(key)]["snippets"] = snippet


def _snippets_of(search: Search, rows: Sequence[Sequence[Any]]) -> list[tuple[bytes, list[dict[str, Any]]]]:
    snippets = Snippets(search)
    return [(key, snippets.of_document(asked, answered)) for key, asked, answered in rows]


async def read_page(
    reading: Reading,
    columns: Sequence[ColumnElement[Any]],
    project_id: bytes,
    filters: Filters,
    *,
    order: Order = "desc",
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page:
    """A page of the interactions that the filters mean; the first of ``columns`` is ``interactions.id``.

    Raises :class:`~service.errors.InvalidRequest` for a cursor that is not one of this list.
    """
    about = _NAMES.get(order, order).encode() + project_id + filters.digest()
    if order == "rank":
        return await _ranked_page(
            reading, Wanted(columns, project_id, filters, order, MOST_RANKED, None), limit, cursor, about
        )
    after = None if cursor is None else cursors.read(cursor, about)
    wanted = Wanted(columns, project_id, filters, order, limit + 1, after)
    key_ids, wanted = await _known_of(reading, wanted)
    if filters.text is not None:
        search = words.parse(filters.text)
        rows = await dialect_of(reading).found(reading, wanted, search, wanted.led(key_ids))
        return _page(rows, limit, about)
    return _page(await dialect_of(reading).page(reading, wanted, key_ids), limit, about)


async def read_candidates(
    reading: Reading, project_id: bytes, filters: Filters, after: bytes | None, limit: int
) -> list[bytes] | None:
    """The next keys, oldest first and ``limit`` of them if there are so many, among which is all that the filters mean.

    Some may come twice. What they are is still to be looked at; None where nothing is gained by finding them alone.
    """
    wanted = Wanted([interactions.c.id], project_id, filters, "asc", limit, after)
    key_ids, wanted = await _known_of(reading, wanted)
    statement = paging.candidates_of(wanted, key_ids)
    if statement is None:
        return None
    await reading.plan(Plan.WALK)
    return [key for (key,) in await reading.fetch(statement)]


def _page(rows: Sequence[Sequence[Any]], limit: int, about: bytes) -> Page:
    """A page of at most ``limit`` rows, of which one more was asked for."""
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, cursors.write(rows[-1][0], about) if more else None)


async def _ranked_page(
    reading: Reading, wanted: Wanted, limit: int, cursor: str | None, about: bytes
) -> Page:
    """A page of the best matches; all pages are of those that there were for the first one, in its order."""
    if wanted.filters.text is None:
        raise InvalidRequest("The value is invalid for 'order'. Only what is searched for ('q') has a rank.")
    search = words.parse(wanted.filters.text)
    rest = None if cursor is None else _Rest.read(cursors.read(cursor, about))
    if rest is None:
        wanted = replace(wanted, after=conditions.key_from(now()))
    else:
        wanted = replace(wanted, after=rest.behind, oldest=rest.oldest)
    key_ids, wanted = await _known_of(reading, wanted)
    led = wanted.led(key_ids)
    if rest is None:
        rows = await dialect_of(reading).ranked(reading, wanted, search, led)
    else:
        rows = await _left(reading, wanted, search, led, rest)
    if len(rows) <= limit:
        return Page(rows, None)
    if rest is None:
        keys = [row[0] for row in rows]
        rest = _Rest(_next(max(keys)), min(keys), ())
    left = replace(rest, digests=tuple(_digest(row[0]) for row in rows[limit:]))
    return Page(rows[:limit], cursors.write(left.written(), about))


async def _left(
    reading: Reading, wanted: Wanted, search: Search, led: Sequence[int], rest: _Rest
) -> Sequence[Sequence[Any]]:
    """What is still there of the rest of a rank, in the order that it had."""
    places = {digest: place for place, digest in enumerate(rest.digests)}
    while True:
        rows = await dialect_of(reading).ranked(reading, wanted, search, led)
        found = {place: row for row in rows if (place := places.get(_digest(row[0]))) is not None}
        # What has ended since the first page may lie among these, in place of some that are older.
        if len(found) == len(places) or len(rows) < wanted.limit:
            return [found[place] for place in sorted(found)]
        wanted = replace(wanted, limit=2 * wanted.limit)


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a rank goes on with: some of the matches that are older than ``behind``, and not than ``oldest``.

    They are named in the order that they had at first, since how well something matches depends on what else is there.
    """

    behind: bytes
    oldest: bytes
    digests: tuple[bytes, ...]

    @classmethod
    def read(cls, place: bytes) -> _Rest:
        digests = place[2 * _KEY :]
        if len(place) <= 2 * _KEY or len(digests) % _DIGEST:
            raise InvalidRequest("The value is invalid for 'cursor'. It is not one of this list.")
        starts = range(0, len(digests), _DIGEST)
        return cls(
            place[:_KEY], place[_KEY : 2 * _KEY], tuple(digests[start : start + _DIGEST] for start in starts)
        )

    def written(self) -> bytes:
        return b"".join((self.behind, self.oldest, *self.digests))


def _digest(key: bytes) -> bytes:
    """So much of a key as tells it from the few others; most of its first bytes are the same in all."""
    return blake2b(key, digest_size=_DIGEST).digest()


def _next(key: bytes) -> bytes:
    return (int.from_bytes(key, "big") + 1).to_bytes(len(key), "big")


async def _known_of(reading: Reading, wanted: Wanted) -> tuple[set[bytes], Wanted]:
    """The ids of the keys that the filters name, and what is wanted with what is known of the terms."""
    if terms.later(wanted.filters):
        wanted = replace(wanted, lacking=await filling_in.lacking(reading))
    return await _key_ids(reading, wanted.project_id, wanted.filters), wanted


async def _key_ids(reading: Reading, project_id: bytes, filters: Filters) -> set[bytes]:
    """The ids of the keys that the filters name, or say."""
    told = {value for choice in filters.choices if choice.field.kind == "key" for value in choice.values}
    if not told or ANY in told:
        return set()
    of_project = api_keys.c.project_id == literal(project_id, Key)
    rows = await reading.fetch(select(api_keys.c.name, api_keys.c.id).where(of_project))
    said = {conditions.key_of(str(value)) for value in told}
    return {key for name, key in rows if name in told} | {key for key in said if key is not None}
