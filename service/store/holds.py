"""The statements of legal holds. A hold is released by a note of when, and its row stays: it says what was held once.

So the number of rows only grows. Who decides by the holds that it has read what may expire says how many those were,
and the statement that lets it expire does nothing when there are more: a hold beats every rule, also one that was
being applied while it was placed.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Executable, FromClause, bindparam, exists, func, or_, select, update
from sqlalchemy.sql.dml import Insert

from service.store.statement import BatchStatement, Particulars, Query, columns_of
from service.store.tables import Key, holds, interactions, projects

_ID: Final = bindparam("id", type_=Key)
_PROJECT: Final = bindparam("project_id", type_=Key)
_HOLD = columns_of(holds, "id project_id interaction_id label label_value reason created_at")
_TOLD: Final[list[ColumnElement[Any]]] = list(holds.c)


def _place(rows: FromClause, database: Particulars) -> Executable:
    there = exists(
        select(interactions.c.id).where(
            interactions.c.id == rows.c.interaction_id, interactions.c.deleted_at.is_(None)
        )
    )
    chosen = select(*(rows.c[column.name] for column in _HOLD)).where(
        or_(rows.c.interaction_id.is_(None), there)
    )
    statement: Insert = (
        database.insert(holds).from_select([column.name for column in _HOLD], chosen).on_conflict_do_nothing()
    )
    return statement


def _release(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(holds)
        .values(released_at=rows.c.released_at)
        .where(holds.c.id == rows.c.id, holds.c.released_at.is_(None))
    )


#: Nothing is placed on what is deleted; one on an interaction comes with :data:`service.store.deletion.LOCK_HELD`.
PLACE_HOLD = BatchStatement("place hold", _HOLD, _place, looks_again=True)
RELEASE_HOLD = BatchStatement("release hold", columns_of(holds, "id released_at"), _release)
PLACING: Final = (PLACE_HOLD, RELEASE_HOLD)

_stands = holds.c.released_at.is_(None)
STANDING = Query("standing holds", select(*_TOLD).where(_stands).order_by(holds.c.id))
HOLDS_OF_PROJECT = Query(
    "holds of a project", select(*_TOLD).where(holds.c.project_id == _PROJECT).order_by(holds.c.id)
)
#: What may hold one interaction, and the labels by which it may be held.
HOLDS_ON = Query(
    "holds on an interaction",
    select(*_TOLD, interactions.c.labels)
    .select_from(holds.join(interactions, interactions.c.project_id == holds.c.project_id))
    .where(
        interactions.c.id == _ID,
        _stands,
        or_(holds.c.interaction_id.is_(None), holds.c.interaction_id == interactions.c.id),
    )
    .order_by(holds.c.id),
)
COUNT_HOLDS = Query("count of holds", select(func.count()).select_from(holds))
PROJECT_NAMES = Query("names of projects", select(projects.c.id, projects.c.name))
