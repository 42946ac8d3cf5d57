"""The ways of PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY, insert

from service.audit.dialect import Dialect, Joined
from service.audit.postgres import documents, finding, pages
from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.reports import Prepared, Reading, Rows
from service.store.statement import Query
from service.store.tables import Key


class _Postgres(Dialect):
    def document(self, key: bytes, asked: str, answered: str) -> tuple[Query, Mapping[str, Any]]:
        return documents.document(key, asked, answered)

    def by_keys(
        self,
        key: Column[Any],
        columns: Sequence[ColumnElement[Any]],
        *conditions: ColumnElement[bool],
        joined: Joined | None = None,
    ) -> Prepared:
        source = key.table if joined is None else key.table.join(*joined)
        among = key == any_(bindparam("keys", type_=ARRAY(Key)))
        # The bounds tell the partitions.
        first, last = (bindparam(name, type_=Key) for name in ("first", "last"))
        return Prepared(
            select(*columns).select_from(source).where(among, key >= first, key <= last, *conditions)
        )

    def keys(self, keys: Sequence[bytes]) -> dict[str, Any]:
        return {"keys": list(keys), "first": keys[0], "last": keys[-1]}

    async def page(self, reading: Reading, wanted: Wanted, key_ids: Collection[bytes]) -> Rows:
        return await pages.page(reading, wanted, key_ids)

    async def found(self, reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> Rows:
        return await finding.found(reading, wanted, search, led)

    async def ranked(
        self, reading: Reading, wanted: Wanted, search: Search, led: Sequence[int], offset: int, limit: int
    ) -> Rows:
        return await finding.ranked(reading, wanted, search, led, offset, limit)


#: A row that is deleted takes its words along.
POSTGRES: Final[Dialect] = _Postgres(insert)
