"""What a process can bring to an end: interactions of deployments that it has, and those that nobody has any more.

Processes on one database may be configured differently, for as long as a change takes or for good. Only who has an
interaction's deployment can ask upstream about it, so nobody else takes it over, or notes about it, before its time is
long over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    Text,
    bindparam,
    cast,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.store.tables import interactions


class Remit(NamedTuple):
    """``deployments`` is a JSON list of ids; what began before ``strangers_before`` (microseconds) is anybody's."""

    deployments: str
    strangers_before: int


class _IsListed(FunctionElement[bool]):
    """Whether a text is one of a JSON list of texts."""

    type = Boolean()
    inherit_cache = True


@compiles(_IsListed, "postgresql")
def _postgres_is_listed(element: _IsListed, compiler: SQLCompiler, **options: Any) -> str:
    one, many = element.clauses
    listed = func.json_array_elements_text(cast(many, JSON)).table_valued("value")
    return compiler.process(one.in_(select(listed.c.value)), **options)


@compiles(_IsListed, "sqlite")
def _sqlite_is_listed(element: _IsListed, compiler: SQLCompiler, **options: Any) -> str:
    one, many = element.clauses
    listed = func.json_each(many).table_valued("value")
    return compiler.process(one.in_(select(listed.c.value)), **options)


def in_remit() -> ColumnElement[bool]:
    """Whether an interaction is in the remit that the parameters of a query tell."""
    return or_(
        _IsListed(interactions.c.deployment_id, bindparam("deployments", type_=Text)),
        interactions.c.deployment_id.is_(None),
        interactions.c.created_at < bindparam("strangers_before", type_=BigInteger),
    )


def may_be_ended() -> ColumnElement[bool]:
    """The same, or upstream has no copy that it could be asked about."""
    return or_(in_remit(), interactions.c.upstream_id.is_(None), not_(interactions.c.upstream_stored))
