"""What is told of two interactions when one is a replay of the other."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import bindparam, select

from service.store.statement import Query
from service.store.tables import Key, interactions


class Figures(NamedTuple):
    """How a request was sent, and what its interaction took and used; ``cost_nanos`` is None where it is not known, or
    not yet.
    """

    revision: int
    replay_of: bytes | None
    labels: str | None
    model_requested: str | None
    model: str | None
    deployment_id: str
    service_tier: str | None
    created_at: int
    first_byte_at: int | None
    completed_at: int | None
    usage_state: int
    input_tokens: int | None
    output_tokens: int | None
    thought_tokens: int | None
    cached_tokens: int | None
    tool_use_tokens: int | None
    total_tokens: int | None
    cost_nanos: int | None


FIGURES = Query(
    "figures of an interaction",
    select(*(interactions.c[name] for name in Figures._fields)).where(
        interactions.c.id == bindparam("id", type_=Key),
        interactions.c.project_id == bindparam("project_id", type_=Key),
        interactions.c.deleted_at.is_(None),
    ),
)
