"""Rows of many interactions whose keys are known, in order: each looked up, or read in runs.

A run is keys that have no other interaction between them. An export of most of a database has long ones, and to read
them takes half as long (on SQLite; on PostgreSQL, whose rows stand in no order, it does not). Nothing is read that
nobody wants, however large it may be.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, ColumnElement, bindparam, select

from service.audit.dialect import Dialect, Joined
from service.store.reports import Prepared, Reading, Rows
from service.store.tables import interactions

#: How many keys a run has on average, so that it is worth a statement.
_LONG: Final = 16
_MOST: Final = "most"
#: Runs of keys, or None where each is looked up.
Runs = Sequence[Sequence[bytes]] | None


class Lookup(NamedTuple):
    """What is read of interactions: of those with given keys, or of all between the first and the last of these."""

    by_keys: Prepared
    within: Prepared | None = None


class Lookups:
    """Makes lookups and reads by them; both are planned by :attr:`~service.store.reports.Plan.LOOK_UP_AGAIN`."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._among = None if dialect.within is None else _among(dialect.within(interactions.c.id))

    def of(
        self,
        key: Column[Any],
        columns: Sequence[ColumnElement[Any]],
        *conditions: ColumnElement[bool],
        joined: Joined | None = None,
    ) -> Lookup:
        """Columns of the rows with some keys; ``key`` is the first of them."""
        by_keys = self._dialect.by_keys(key, columns, *conditions, joined=joined)
        if self._dialect.within is None or joined is not None:
            return Lookup(by_keys)
        return Lookup(by_keys, Prepared(select(*columns).where(self._dialect.within(key), *conditions)))

    async def runs(self, reading: Reading, keys: Sequence[bytes]) -> Runs:
        """The runs of some keys, where they are long."""
        if self._among is None or not keys:
            return None
        most = len(keys) + len(keys) // _LONG
        values = {**self._dialect.keys(keys), _MOST: most + 1}
        present = [key for (key,) in await reading.fetch_prepared(self._among, values)]
        return None if len(present) > most else _runs(present, set(keys))

    async def rows(self, reading: Reading, lookup: Lookup, keys: Sequence[bytes], runs: Runs) -> Rows:
        """The rows with these keys, in no order; ``runs`` are those of these keys, or of more."""
        if not keys:
            return ()
        if runs is None or lookup.within is None:
            return await reading.fetch_prepared(lookup.by_keys, self._dialect.keys(keys))
        wanted = set(keys)
        rows: list[Sequence[Any]] = []
        for run in runs:
            found = await reading.fetch_prepared(lookup.within, self._dialect.keys(run))
            rows += [row for row in found if row[0] in wanted]
        return rows


def _runs(present: Sequence[bytes], wanted: Collection[bytes]) -> list[list[bytes]]:
    """What is wanted of the interactions that there are, apart where another one stands between."""
    return [list(run) for is_wanted, run in groupby(present, wanted.__contains__) if is_wanted]


def _among(condition: ColumnElement[bool]) -> Prepared:
    """The interactions that there are, in order, up to so many."""
    key = interactions.c.id
    return Prepared(select(key).where(condition).order_by(key).limit(bindparam(_MOST, type_=BigInteger)))
