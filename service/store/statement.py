"""What a statement is to the store: a write over any number of rows, or a read; compiled once for each database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Column, Executable, FromClause, Select, Table, bindparam, select, true
from sqlalchemy.sql.dml import Insert

from service.store.tables import Key


@dataclass(frozen=True, slots=True)
class Particulars:
    """What a database does in its own way."""

    #: The dialect's ``insert``: SQLite's and PostgreSQL's share ``on_conflict_*``.
    insert: Callable[[Table], Any]
    #: Of the interactions of these rows (``interaction_id``, ``owner_id``): those that take an outcome in this batch.
    takes_outcome: Callable[[FromClause], Select[Any]]
    #: The same for its log, which is kept of a deleted interaction until that is erased.
    takes_events: Callable[[FromClause], Select[Any]]
    #: Whether a row that is written stays locked until the transaction ends, because there are other writers.
    locks_rows: bool = True


@dataclass(frozen=True, slots=True)
class BatchStatement:
    """A named statement over many rows.

    ``packs`` says that the last member of a row is a body to be compressed; ``looks_again``, that the statement must
    see what others committed while earlier statements of its batch waited for a row, or may meet a row that one of
    them changes; ``goes_ahead``, that all the others must see what was committed while it waited for a row.
    """

    name: str
    columns: tuple[Column[Any], ...]
    build: Callable[[FromClause, Particulars], Executable]
    packs: bool = False
    looks_again: bool = False
    goes_ahead: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A named read."""

    name: str
    select: Executable


def key_parameters(count: int) -> list[BindParameter[bytes]]:
    """Parameters for so many keys, by the names that :func:`named_keys` gives them."""
    return [bindparam(f"key_{place}", type_=Key) for place in range(count)]


def named_keys(keys: Sequence[bytes]) -> dict[str, bytes]:
    """Keys as the parameters of a query over so many."""
    return {f"key_{place}": key for place, key in enumerate(keys)}


#: Reads all rows of a query; raises :class:`~service.errors.ServiceUnavailable`.
Fetch = Callable[[Query, Mapping[str, Any]], Awaitable[Sequence[Sequence[Any]]]]


def insert_rows(
    table: Table, columns: Sequence[Column[Any]], rows: FromClause, database: Particulars
) -> Executable:
    """Insert the rows as they are, and leave alone what is there already."""
    names = [column.name for column in columns]
    chosen = select(*(rows.c[name] for name in names)).where(true())
    statement: Insert = database.insert(table).from_select(names, chosen).on_conflict_do_nothing()
    return statement


def columns_of(table: Table, names: str) -> tuple[Column[Any], ...]:
    """Columns for a statement's rows, named and typed as those of a table."""
    return tuple(Column(name, table.c[name].type) for name in names.split())
