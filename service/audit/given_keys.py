"""Rows of interactions whose keys are given, hundreds at a time, by one statement however many they are.

On PostgreSQL the keys are an array, and the bounds tell it the partitions. SQLite has no arrays: the keys are one value
that is taken apart, which takes it less than to be told of each and to put them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    LargeBinary,
    Select,
    any_,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from service.audit.ordered_join import OrderedJoin
from service.store.reports import Prepared
from service.store.tables import Key

_BYTES: Final = literal_column("16", BigInteger)
_ONE: Final = literal_column("1", BigInteger)


def prepared(
    dialect: str,
    key: Column[Any],
    columns: Sequence[ColumnElement[Any]],
    *conditions: ColumnElement[bool],
    joined: tuple[FromClause, ColumnElement[bool]] | None = None,
) -> Prepared:
    """A statement for ``columns`` of the rows with the keys of :func:`values_of`, and of what is ``joined`` to them.

    Rows come in no order. It is to be planned by :attr:`~service.store.reports.Plan.LOOK_UP_AGAIN`.
    """
    chosen = _among(dialect, key, joined).with_only_columns(*columns)
    return Prepared(chosen.where(*conditions))


def values_of(keys: Sequence[bytes], dialect: str) -> dict[str, Any]:
    """The parameters for these keys, which are in order, and at least one."""
    if dialect == "postgresql":
        return {"keys": list(keys), "first": keys[0], "last": keys[-1]}
    return {"keys": b"".join(keys), "count": len(keys)}


def _among(
    dialect: str, key: Column[Any], joined: tuple[FromClause, ColumnElement[bool]] | None
) -> Select[Any]:
    table: FromClause = key.table
    if dialect == "postgresql":
        source = table if joined is None else table.join(*joined)
        among = key == any_(bindparam("keys", type_=ARRAY(Key)))
        first, last = (bindparam(name, type_=Key) for name in ("first", "last"))
        return select(key).select_from(source).where(among, key >= first, key <= last)
    places = select(literal_column("0", BigInteger).label("place")).cte("places", recursive=True)
    following = places.c.place + _ONE
    places = places.union_all(select(following).where(following < bindparam("count", type_=BigInteger)))
    one = func.substr(bindparam("keys", type_=LargeBinary), places.c.place * _BYTES + _ONE, _BYTES)
    source = OrderedJoin(places, table, key == one)
    return select(key).select_from(source if joined is None else OrderedJoin(source, *joined))
