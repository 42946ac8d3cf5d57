"""What each database does in its own way for lists, searches, exports, and what those are made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Column, ColumnElement, FromClause, Table

from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.reports import Prepared, Reading, Rows
from service.store.script import ScriptMaker
from service.store.statement import Query

#: Another table, and the condition under which its rows are joined.
Joined = tuple[FromClause, ColumnElement[bool]]


class ByKeys(Protocol):
    """A statement for ``columns`` of the rows with given keys, and of what is ``joined`` to them.

    It is the same however many keys there are; rows come in no order. It is to be planned by
    :attr:`~service.store.reports.Plan.LOOK_UP_AGAIN`.
    """

    def __call__(
        self,
        key: Column[Any],
        columns: Sequence[ColumnElement[Any]],
        *conditions: ColumnElement[bool],
        joined: Joined | None = None,
    ) -> Prepared: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """The ways of one database; :func:`service.audit.dialects.dialect_of` tells whose."""

    #: Has ``on_conflict_do_nothing`` and ``on_conflict_do_update``.
    insert: Callable[[Table], Any]
    #: The statement that adds the texts of an interaction (its key, what was asked and answered) to what is searched,
    #: with its parameters.
    document: Callable[[bytes, str, str], tuple[Query, Mapping[str, Any]]]
    by_keys: ByKeys
    #: The parameters of such a statement for these keys, which are in order, and at least one.
    keys: Callable[[Sequence[bytes]], dict[str, Any]]
    #: A page without free text; the last argument has the ids of the API keys that the filters name.
    page: Callable[[Reading, Wanted, Collection[bytes]], Awaitable[Rows]]
    #: What a search finds, in the order of time; the last argument has the terms that lead to what the filters mean.
    found: Callable[[Reading, Wanted, Search, Sequence[int]], Awaitable[Rows]]
    #: The same, the newest matches with the best of them first.
    ranked: Callable[[Reading, Wanted, Search, Sequence[int]], Awaitable[Rows]]
    #: One step of what makes the index of words forget those of deleted texts, 0 when there is nothing left of them;
    #: None where it forgets by itself.
    tidying: ScriptMaker | None = None
    #: Whether a key lies between the first and the last of :attr:`keys`, where to read all such rows takes less than to
    #: look each one up; None where it does not.
    within: Callable[[Column[Any]], ColumnElement[bool]] | None = None
