"""The ways of SQLite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    LargeBinary,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from service.audit.dialect import Dialect, Joined
from service.audit.ordered_join import OrderedJoin
from service.audit.sqlite import documents, finding, pages
from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.reports import Prepared, Reading, Rows
from service.store.statement import Query

_BYTES: Final = literal_column("16", BigInteger)
_ONE: Final = literal_column("1", BigInteger)


class _SQLite(Dialect):
    def document(self, key: bytes, asked: str, answered: str) -> tuple[Query, Mapping[str, Any]]:
        return documents.document(key, asked, answered)

    def by_keys(
        self,
        key: Column[Any],
        columns: Sequence[ColumnElement[Any]],
        *conditions: ColumnElement[bool],
        joined: Joined | None = None,
    ) -> Prepared:
        # There are no arrays: the keys are one value that is taken apart, which takes less than to be told of each and
        # to put them in order.
        places = select(literal_column("0", BigInteger).label("place")).cte("places", recursive=True)
        following = places.c.place + _ONE
        more = select(following).where(following < bindparam("count", type_=BigInteger))
        places = places.union_all(more)
        one = func.substr(bindparam("keys", type_=LargeBinary), places.c.place * _BYTES + _ONE, _BYTES)
        source = OrderedJoin(places, key.table, key == one)
        if joined is not None:
            source = OrderedJoin(source, *joined)
        return Prepared(select(*columns).select_from(source).where(*conditions))

    def keys(self, keys: Sequence[bytes]) -> dict[str, Any]:
        return {"keys": b"".join(keys), "count": len(keys)}

    async def page(self, reading: Reading, wanted: Wanted, key_ids: Collection[bytes]) -> Rows:
        return await pages.page(reading, wanted, key_ids)

    async def found(self, reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> Rows:
        return await finding.found(reading, wanted, search, led)

    async def ranked(
        self, reading: Reading, wanted: Wanted, search: Search, led: Sequence[int], offset: int, limit: int
    ) -> Rows:
        return await finding.ranked(reading, wanted, search, led, offset, limit)


SQLITE: Final[Dialect] = _SQLite(insert, documents.tidying)
