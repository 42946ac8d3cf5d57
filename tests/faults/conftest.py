"""Counts of the fault tests stand in the summary, so that a green run shows how much it has looked at."""

from __future__ import annotations

import pytest

from tests.support.outliving import database_fixture, start_replica_fixture, upstream_fixture
from tests.support.reconciling import reconciles_fixture

__all__ = ("database_fixture", "reconciles_fixture", "start_replica_fixture", "upstream_fixture")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of the test's own, of each kind."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "own_postgres_url")
    return url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each test that has counted something."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "counts":
                    terminalreporter.write_line(f"{report.nodeid}: {value}")
