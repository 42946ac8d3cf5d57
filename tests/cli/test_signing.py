"""`interactions webhook-secret`, on a database of its own."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from service.cli.main import commands
from service.webhooks.secrets import is_secret


@pytest.fixture
def database(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'interactions.db'}"
    run("migrate", database=url)
    return url


def run(*arguments: str, database: str, status: int = 0) -> tuple[list[str], str]:
    """The lines that a command prints, and what it says beside them."""
    hidden = {name: None for name in os.environ if name.startswith("INTERACTIONS_")}
    done = CliRunner().invoke(commands, [*arguments, "--database-url", database], env=hidden)
    assert done.exit_code == status, (done.output, done.exception)
    return done.stdout.splitlines(), done.stderr


def test_a_secret_is_made_rotated_and_retired(database: str) -> None:
    (first,), _ = run("webhook-secret", "create", database=database)
    assert is_secret(first)
    assert run("webhook-secret", "show", database=database)[0] == [first]
    (second, before), said = run("webhook-secret", "rotate", "--keep", "2h", database=database)
    assert (before, second != first) == (first, True)
    assert "signs along until" in said
    (line,), _ = run("webhook-secret", "show", "--json", database=database)
    assert (orjson.loads(line)["webhook_secret"], orjson.loads(line)["previous_secret"]) == (second, first)
    assert run("webhook-secret", "retire", database=database)[0] == [second]
    assert run("webhook-secret", "show", database=database)[0] == [second]


def test_what_cannot_be_done_is_told(database: str) -> None:
    run("webhook-secret", "show", database=database)
    for arguments, status, said in (
        (("create",), 1, "already"),
        (("retire",), 1, "rotated out"),
        (("rotate", "--keep", "soon"), 2, "--keep"),
        (("show", "--project", "other"), 1, "'other'"),
    ):
        assert said in run("webhook-secret", *arguments, database=database, status=status)[1]
