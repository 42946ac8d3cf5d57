"""What a page of interactions has to have, whichever way they are found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Select, literal

from service.audit import conditions, terms
from service.audit.filters import ANY, Filters
from service.store.tables import Key, interactions, listing_terms

Order = Literal["desc", "asc", "rank"]

_KEY: Final = interactions.c.id
#: Filters that have an index of their own, and mean few.
_DIRECT: Final = frozenset({"chain", "previous_interaction_id", "replay_of"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows a page has: what follows ``after`` in the order, at most ``limit`` of them."""

    columns: Sequence[ColumnElement[Any]]
    project_id: bytes
    filters: Filters
    order: Order
    limit: int
    after: bytes | None
    #: Of what not all interactions have the terms yet.
    lacking: Collection[str] = ()
    #: The key before which nothing is looked at.
    oldest: bytes | None = None

    @property
    def is_direct(self) -> bool:
        """Whether an index of its own finds it."""
        choices = self.filters.choices
        return any(choice.field.name in _DIRECT and ANY not in choice.values for choice in choices)

    def leading(self, key_ids: Collection[bytes]) -> list[int]:
        """The terms to walk along; ``key_ids`` has the ids of the keys that the filters name."""
        return terms.leading(self.filters, self.project_id, key_ids, lacking=self.lacking)

    def led(self, key_ids: Collection[bytes]) -> list[int]:
        """The same, where they are other terms than the one that all have."""
        found = self.leading(key_ids)
        return [] if found == [terms.of_project(self.project_id)] else found

    def conditions(self) -> list[ColumnElement[bool]]:
        """What a row must be."""
        found = conditions.of_filters(self.filters, self.project_id)
        if self.is_direct and self.filters.deleted == "false":
            # It says no more than the filters do, and lets the index of children be used.
            found.append(interactions.c.erased_at.is_(None))
        if self.after is not None:
            place = literal(self.after, Key)
            found.append(place < _KEY if self.order == "asc" else place > _KEY)
        if self.oldest is not None:
            found.append(literal(self.oldest, Key) <= _KEY)
        return found

    def ordered(self, chosen: Select[Any], by: ColumnElement[Any] = _KEY) -> Select[Any]:
        """The first rows of a statement."""
        return chosen.order_by(by.asc() if self.order == "asc" else by.desc()).limit(self.limit)

    def between(self, since: int | None, until: int | None) -> Wanted:
        """The same, of a part of its time, in microseconds since the epoch."""
        times = self.filters
        since = max((one for one in (since, times.since) if one is not None), default=None)
        until = min((one for one in (until, times.until) if one is not None), default=None)
        return replace(self, filters=replace(times, since=since, until=until))

    def lowest(self) -> bytes | None:
        """The key before which nothing is wanted."""
        since = self.filters.since
        bounds = [] if since is None else [conditions.key_from(since)]
        if self.after is not None and self.order == "asc":
            bounds.append(self.after)
        if self.oldest is not None:
            bounds.append(self.oldest)
        return max(bounds, default=None)

    def highest(self) -> bytes | None:
        """The key behind which nothing is wanted."""
        until = self.filters.until
        bounds = [] if until is None else [conditions.key_from(until)]
        if self.after is not None and self.order != "asc":
            bounds.append(self.after)
        return min(bounds, default=None)

    @property
    def is_empty(self) -> bool:
        """Whether no time is left between its bounds."""
        lowest, highest = self.lowest(), self.highest()
        return lowest is not None and highest is not None and lowest > highest

    def behind(self, chosen: Select[Any]) -> Select[Any]:
        """The bounds of time and place on what is walked along terms, without what the last page ended with."""
        walked = listing_terms.c.interaction_id
        chosen = self.within(chosen)
        if self.after is not None:
            place = literal(self.after, Key)
            chosen = chosen.where(walked > place if self.order == "asc" else walked < place)
        return chosen

    def within(
        self, chosen: Select[Any], walked: ColumnElement[Any] = listing_terms.c.interaction_id
    ) -> Select[Any]:
        """The bounds of time and place, on what is walked."""
        if (lowest := self.lowest()) is not None:
            chosen = chosen.where(walked >= literal(lowest, Key))
        if (highest := self.highest()) is not None:
            chosen = chosen.where(walked <= literal(highest, Key))
        return chosen
