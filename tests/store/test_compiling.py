"""Statements that differ in nothing but their values share a text, and each has its own values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import BigInteger, Dialect, Executable, literal, make_url, select
from sqlalchemy.dialects import sqlite

from service.audit import filters, summaries
from service.audit.postgres import pages as on_postgres
from service.audit.sqlite import pages as on_sqlite
from service.audit.wanted import Order, Wanted
from service.store.compiling import Compiling, Composed
from service.store.tables import interactions

DIALECTS: dict[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": make_url("postgresql+asyncpg://").get_dialect()(),
}
PAGES: dict[str, Callable[[Wanted, set[bytes]], Executable | Composed]] = {
    "sqlite": on_sqlite.page_of,
    "postgresql": on_postgres.page_of,
}


@pytest.fixture(params=sorted(DIALECTS))
def compiling(request: pytest.FixtureRequest) -> Compiling:
    return Compiling(DIALECTS[request.param])


def longer_than(tokens: int, status: str, limit: int) -> Executable:
    columns = interactions.c
    chosen = select(columns.id).where(columns.total_tokens > literal(tokens, BigInteger))
    return chosen.where(columns.status == status, columns.depth != tokens).limit(limit)


def test_a_text_is_compiled_once_and_has_the_values_of_each(compiling: Compiling) -> None:
    first, values = compiling.prepared(longer_than(7, "failed", 3))
    second, others = compiling.prepared(longer_than(8, "completed", 4))
    assert second is first
    assert values[:4] == [7, "failed", 7, 3]
    assert others[:4] == [8, "completed", 8, 4]
    assert others[4:] == values[4:]
    assert compiling.prepared(longer_than(7, "failed", 3)) == (first, values)


def test_a_list_of_values_has_a_text_for_each_length(compiling: Compiling) -> None:
    for wanted in (["a", "b"], ["c"], [], ["d", "e"]):
        text, values = compiling.prepared(select(interactions.c.id).where(interactions.c.agent.in_(wanted)))
        assert values == wanted
        assert text.count("?") + text.count("$") == len(wanted)


def page(compiling: Compiling, dialect: str, query: str, order: Order, after: bytes, project: bytes) -> Any:
    chosen, _ = filters.parse(parse_qsl(query))
    wanted = Wanted(summaries.COLUMNS, project, chosen, order, 51, after)
    return compiling.prepared(PAGES[dialect](wanted, {project}))


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("status=failed", "status=completed"),
        ("status=failed,completed&from=1d", "status=cancelled,incomplete&from=2d"),
        ("label:team=search&min_cost=0.5", "label:team=ads&min_cost=2"),
        ("min_depth=3&project=default", "min_depth=3&project=other"),
        ("min_total_tokens=100000&max_total_tokens=200000", "min_total_tokens=50000&max_total_tokens=100000"),
        ("key_id=alpha&stream=true", "key_id=beta&stream=true"),
    ],
)
def test_pages_by_the_same_filters_are_alike(dialect: str, one: str, another: str) -> None:
    compiling = Compiling(DIALECTS[dialect])
    mine, yours = b"\1" * 16, b"\2" * 16
    first, values = page(compiling, dialect, one, "desc", b"\3" * 16, mine)
    second, others = page(compiling, dialect, another, "desc", b"\4" * 16, yours)
    assert second == first
    told = [value if isinstance(value, bytes) else getattr(value, "bytes", value) for value in others]
    assert mine not in told
    assert yours in told
    assert len(values) == len(others)
