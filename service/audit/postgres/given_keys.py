"""Rows of interactions whose keys are given, on PostgreSQL: as an array, with bounds that tell the partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY

from service.audit.dialect import Joined
from service.store.reports import Prepared
from service.store.tables import Key


def by_keys(
    key: Column[Any],
    columns: Sequence[ColumnElement[Any]],
    *conditions: ColumnElement[bool],
    joined: Joined | None = None,
) -> Prepared:
    """A statement for columns of the rows with the keys of :func:`keys_of`, and of what is joined to them."""
    source = key.table if joined is None else key.table.join(*joined)
    among = key == any_(bindparam("keys", type_=ARRAY(Key)))
    first, last = (bindparam(name, type_=Key) for name in ("first", "last"))
    return Prepared(select(*columns).select_from(source).where(among, key >= first, key <= last, *conditions))


def keys_of(keys: Sequence[bytes]) -> dict[str, Any]:
    """The parameters for these keys, which are in order."""
    return {"keys": list(keys), "first": keys[0], "last": keys[-1]}
