"""Series: what usage can be grouped and filtered by, each combination known by its digest.

Every interaction that has been counted names its series, so what it is counted under outlives its labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite

from service.store.statement import Query
from service.store.tables import series


@dataclass(frozen=True, slots=True)
class Series:
    """One combination; ``labels`` is the JSON of the row."""

    project_id: bytes
    key_id: bytes | None
    model: str | None
    agent: str | None
    deployment_id: str | None
    status: str
    error_code: str | None
    service_tier: str | None
    stream: bool
    background: bool
    labels: str | None

    def digest(self) -> bytes:
        """The id of the series."""
        return blake2b(repr(astuple(self)).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def of_row(it: Mapping[str, Any]) -> Series:
    """The series of an interaction with the columns of its row."""
    return Series(
        project_id=it["project_id"],
        key_id=it["key_id"],
        model=it["model"] if it["model"] is not None else it["model_requested"],
        agent=it["agent"],
        deployment_id=it["deployment_id"],
        status=it["status"],
        error_code=it["error_code"],
        service_tier=it["service_tier"],
        stream=bool(it["stream"]),
        background=bool(it["background"]),
        labels=it["labels"],
    )


def insert_into(dialect: str) -> Query:
    """The statement that adds a series, unless it is known."""
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    values = {column.name: bindparam(column.name, type_=column.type) for column in series.c}
    return Query("insert series", insert(series).values(values).on_conflict_do_nothing())
