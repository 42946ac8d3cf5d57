"""The database's own clock: the one by which all processes on it can tell who has been silent for how long.

A process that reckons with it needs no clock of its own that agrees with another machine's. SQLite has the clock of the
machine that its file is on.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.store.statement import Query


class Clock(FunctionElement[int]):
    """What the time is, in microseconds since the epoch."""

    type = BigInteger()
    inherit_cache = True


@compiles(Clock, "postgresql")
def _postgres_clock(element: Clock, compiler: SQLCompiler, **options: Any) -> str:
    return "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


@compiles(Clock, "sqlite")
def _sqlite_clock(element: Clock, compiler: SQLCompiler, **options: Any) -> str:
    # The Julian day of the epoch, and the microseconds of a day.
    return "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"


CLOCK = Query("clock", select(Clock()))
