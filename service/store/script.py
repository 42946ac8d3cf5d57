"""A script: statements of one transaction, each chosen by what those before it have found.

Written once as a generator that yields steps and is sent their rows; each database runs it in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.store.statement import Query


@dataclass(frozen=True, slots=True)
class Ask:
    """A read; its rows are sent back."""

    query: Query
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Execute:
    """A write, once for each mapping of parameters; nothing is sent back."""

    query: Query
    parameters: Sequence[Mapping[str, Any]]


Rows = Sequence[Sequence[Any]]
Script = Generator[Ask | Execute, Rows, int]
#: Begins the script anew: a transaction may have to be tried again.
ScriptMaker = Callable[[], Script]
