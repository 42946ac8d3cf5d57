"""Whether a database fits itself, as the service's own reconciliation sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from service.audit.reconcile import Reconciliation, Report, Span
from service.store.backend import Backend
from service.store.codec import Codec
from service.store.engine import open_backend
from service.store.records import now
from tests.support.shared_database import SHARED

#: What a process that was killed held is taken over only by who has been there for most of a lease itself.
_PATIENCE = 60.0
#: Seconds for which what is open may wait for the next process.
_GRACE = 60.0
_HOUR = 3_600
#: Fixtures that give the database of a test, by its URL or with it.
_DATABASES = ("database_url", "sqlite_url", "postgres_url", "database")


@pytest.fixture(name="reconciles", autouse=True)
def reconciles_fixture(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test, whatever befell its services, and in whatever moment they ended: its database fits itself.

    A test that is marked ``damages`` spoils by hand what no service ever does.
    """
    yield
    if request.node.get_closest_marker("damages") is not None:
        return
    shared = request.node.stash.get(SHARED, None)
    for url in sorted(_databases(request.node.funcargs)):
        if shared is not None and url == shared.url:
            report = shared.asked(lambda backend: report_on(backend, grace=_GRACE))
        else:
            report = asyncio.run(reconciled(url, grace=_GRACE))
        assert not report.mismatches, report.shown()["mismatches"]


def _databases(fixtures: Mapping[str, Any]) -> set[str]:
    given = (fixtures[name] for name in _DATABASES if name in fixtures)
    return {value if isinstance(value, str) else value.url for value in given}


async def reconciled(database_url: str, *, grace: float = 0.0) -> Report:
    """The report on everything that is in a database."""
    backend = open_backend(database_url, Codec(), pool_limit=1)
    await backend.start()
    try:
        return await report_on(backend, grace=grace)
    finally:
        await backend.close()


async def report_on(backend: Backend, *, grace: float) -> Report:
    """The report on everything that a backend reads."""
    everything = Span(start=0, end=now() + _HOUR * 1_000_000, interval=_HOUR)
    return await Reconciliation(backend.fetch, Codec(), grace=grace).report(everything)


async def assert_reconciles(database_url: str) -> Report:
    """Wait until nothing is left behind, which takes the running service a moment; fail if anything else is wrong."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while (report := await reconciled(database_url)).mismatches:
                await asyncio.sleep(0.2)
            return report
    except TimeoutError:
        report = await reconciled(database_url)
    assert not report.mismatches, report.shown()["mismatches"]
    return report
