"""Rows of interactions whose keys are given, on SQLite.

There are no arrays: the keys are one value that is taken apart, which takes less than to be told of each and to put
them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Column, ColumnElement, LargeBinary, bindparam, func, literal_column, select

from service.audit.dialect import Joined
from service.audit.ordered_join import OrderedJoin
from service.store.reports import Prepared

_BYTES: Final = literal_column("16", BigInteger)
_ONE: Final = literal_column("1", BigInteger)


def by_keys(
    key: Column[Any],
    columns: Sequence[ColumnElement[Any]],
    *conditions: ColumnElement[bool],
    joined: Joined | None = None,
) -> Prepared:
    """A statement for columns of the rows with the keys of :func:`keys_of`, and of what is joined to them."""
    places = select(literal_column("0", BigInteger).label("place")).cte("places", recursive=True)
    following = places.c.place + _ONE
    places = places.union_all(select(following).where(following < bindparam("count", type_=BigInteger)))
    one = func.substr(bindparam("keys", type_=LargeBinary), places.c.place * _BYTES + _ONE, _BYTES)
    source = OrderedJoin(places, key.table, key == one)
    if joined is not None:
        source = OrderedJoin(source, *joined)
    return Prepared(select(*columns).select_from(source).where(*conditions))


def within(key: Column[Any]) -> ColumnElement[bool]:
    """Whether a key lies between the first and the last of :func:`keys_of`: rows are stored in their order."""
    keys = bindparam("keys", type_=LargeBinary)
    return key.between(func.substr(keys, _ONE, _BYTES), func.substr(keys, -_BYTES))


def keys_of(keys: Sequence[bytes]) -> dict[str, Any]:
    """The parameters for these keys."""
    return {"keys": b"".join(keys), "count": len(keys)}
