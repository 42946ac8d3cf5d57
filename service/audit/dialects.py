"""Which database it is that a report reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from service.audit.dialect import Dialect
from service.audit.postgres.dialect import POSTGRES
from service.audit.sqlite.dialect import SQLITE
from service.store.reports import Reading

_DIALECTS: Final[Mapping[str, Dialect]] = {"sqlite": SQLITE, "postgresql": POSTGRES}


def dialect_of(reading: Reading) -> Dialect:
    """The ways of the database that is read."""
    return _DIALECTS[reading.dialect]
