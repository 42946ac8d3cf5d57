"""What each database does in its own way for lists, searches, exports, and what those are made from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, Table

from service.audit.wanted import Wanted
from service.audit.words import Search
from service.store.reports import Prepared, Reading, Rows
from service.store.script import ScriptMaker
from service.store.statement import Query

#: Another table, and the condition under which its rows are joined.
Joined = tuple[FromClause, ColumnElement[bool]]


class Dialect(ABC):
    """The ways of one database; :func:`service.audit.dialects.dialect_of` tells whose.

    ``insert`` is the one that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``. ``tidying`` is one step of
    what makes the index of words forget those of deleted texts, 0 when there is nothing left of them; None where it
    forgets by itself.
    """

    def __init__(self, insert: Callable[[Table], Any], tidying: ScriptMaker | None = None) -> None:
        self.insert = insert
        self.tidying = tidying

    @abstractmethod
    def document(self, key: bytes, asked: str, answered: str) -> tuple[Query, Mapping[str, Any]]:
        """The statement that adds the texts of an interaction to what is searched, with its parameters."""

    @abstractmethod
    def by_keys(
        self,
        key: Column[Any],
        columns: Sequence[ColumnElement[Any]],
        *conditions: ColumnElement[bool],
        joined: Joined | None = None,
    ) -> Prepared:
        """A statement for ``columns`` of the rows with the keys of :meth:`keys`, and of what is ``joined`` to them.

        It is the same however many keys there are; rows come in no order. It is to be planned by
        :attr:`~service.store.reports.Plan.LOOK_UP_AGAIN`.
        """

    @abstractmethod
    def keys(self, keys: Sequence[bytes]) -> dict[str, Any]:
        """The parameters for these keys, which are in order, and at least one."""

    @abstractmethod
    async def page(self, reading: Reading, wanted: Wanted, key_ids: Collection[bytes]) -> Rows:
        """A page without free text; ``key_ids`` has the ids of the keys that the filters name.

        Raises as :meth:`~service.store.reports.Reading.fetch` does.
        """

    @abstractmethod
    async def found(self, reading: Reading, wanted: Wanted, search: Search, led: Sequence[int]) -> Rows:
        """What a search finds, in the order of time; ``led`` has the terms that lead to what the filters mean.

        Raises as :meth:`page` does.
        """

    @abstractmethod
    async def ranked(
        self, reading: Reading, wanted: Wanted, search: Search, led: Sequence[int], offset: int, limit: int
    ) -> Rows:
        """A part of the best of the newest matches, the best first; ``wanted`` says how many are looked at.

        Each row ends with the keys of the oldest and the newest of all that was found. Raises as :meth:`page` does.
        """
