"""What reports on usage add up row by row, because no roll-up has it yet: so much of it, and no more.

To add up what waits takes far longer than to read roll-ups. A report over more than :data:`MOST` of it would end at its
time limit after having kept a connection busy, and so would the next try; the indexer comes to all of it by and by.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import func, literal, literal_column, select

from service.audit.conditions import key_from
from service.audit.gathering import WAITING
from service.audit.measures import TOLD
from service.errors import ServiceUnavailable
from service.store.reports import Reading
from service.store.tables import Key, interactions

#: Interactions that a report adds up row by row: a third of its time, or less.
MOST: Final = 100_000
#: How many the indexer comes to in a second, when it is not kept from it; a guess for whoever asks again.
_A_SECOND: Final = 1_000
_SOONEST: Final = 2
_LATEST: Final = 600


async def refuse_too_much(reading: Reading, project_id: bytes, start: int, end: int, most: int) -> None:
    """Raise :class:`ServiceUnavailable` if more than ``most`` of a project wait between two times in microseconds.

    It says how many wait in all, and when that may be done.
    """
    waiting = (
        select(literal_column("1"))
        .where(
            WAITING,
            interactions.c.completed_at.is_not(None),
            interactions.c.project_id == literal(project_id, Key),
            interactions.c.id >= literal(key_from(start), Key),
            interactions.c.id < literal(key_from(end), Key),
        )
        .limit(most + 1)
        .subquery("waiting")
    )
    ((count,),) = await reading.fetch(select(func.count()).select_from(waiting))
    if count <= most:
        return
    ((everything,),) = await reading.fetch(select(func.count()).select_from(interactions).where(WAITING))
    raise ServiceUnavailable(
        f"Usage cannot be told yet: more than {most:,} interactions of this time have ended and are not in the sums, "
        f"which {everything:,} interactions still wait for. Ask again when there are fewer, or narrow the time with "
        "'from' and 'to'.",
        retry_after=min(_LATEST, max(_SOONEST, everything // _A_SECOND)),
    )


async def has_strangers(reading: Reading, known: Collection[str]) -> bool:
    """Whether anything waits for a price that is of none of these deployments, by their ids."""
    waiting = (
        select(interactions.c.id)
        .where(
            WAITING,
            interactions.c.completed_at.is_not(None),
            interactions.c.usage_state.in_(TOLD),
            interactions.c.cost_nanos.is_(None),
            interactions.c.deployment_id.not_in(known),
        )
        .limit(1)
    )
    return bool(await reading.fetch(waiting))
