"""The commands as a user runs them: exit status, and what is said where."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.main import commands
from service.store.migrate import SCHEMA_REVISION

ROOT = Path(__file__).parents[2]


def run(cwd: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_serving_without_an_upstream_is_refused(tmp_path: Path) -> None:
    line = refusal(run(tmp_path, "serve"))
    for remedy in ("GEMINI_API_KEY", "--config", "--emulator"):
        assert remedy in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("general_settings: {databse_url: x}", "nearest known key is 'database_url'"),
        ("general_settings: {master_key: os.environ/NOT_SET}", "NOT_SET is not set"),
        ("general_settings: {database_url: 'mysql://h'}", "general_settings.database_url"),
        ("general_settings: {port: [1]}", "expected an integer, got a list"),
        ("model_list: [", "not valid YAML"),
    ],
)
def test_a_bad_configuration_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    for command in ("serve", "migrate"):
        assert message in refusal(run(tmp_path, command, "--config", "config.yaml", GEMINI_API_KEY="k"))


def test_a_missing_file_is_told_in_one_line(tmp_path: Path) -> None:
    assert "none.yaml" in refusal(run(tmp_path, "serve", "--config", "none.yaml"))


@pytest.mark.parametrize("key", ["", "sk-1234"])
def test_a_reachable_address_without_a_private_key_is_refused(tmp_path: Path, key: str) -> None:
    line = refusal(
        run(tmp_path, "serve", "--host", "0.0.0.0", GEMINI_API_KEY="k", INTERACTIONS_MASTER_KEY=key)
    )
    assert "general_settings.master_key" in line
    assert "sk-1234" not in line


def test_the_configuration_is_shown_without_secrets(tmp_path: Path) -> None:
    result = run(
        tmp_path, "serve", "--show-config", "--port", "81", "--database-url", "postgres://u:hunter2@h/d",
        GEMINI_API_KEY="hunter2", INTERACTIONS_MASTER_KEY="hunter2",
    )  # fmt: skip
    assert result.returncode == 0
    assert result.stderr == ""
    assert "port: 81" in result.stdout
    assert "hunter2" not in result.stdout


def test_the_emulator_stands_in_only_where_asked(tmp_path: Path) -> None:
    fallback = run(tmp_path, "serve", "--or-emulator", "--show-config")
    assert "emulator: true" in fallback.stdout
    keyed = run(tmp_path, "serve", "--or-emulator", "--show-config", GEMINI_API_KEY="k")
    assert "emulator: false" in keyed.stdout
    (tmp_path / "config.yaml").write_text("", encoding="utf-8")
    refusal(run(tmp_path, "serve", "--or-emulator", "--config", "config.yaml"))


def test_help_lists_the_commands(tmp_path: Path) -> None:
    result = run(tmp_path, "--help")
    assert result.returncode == 0
    for command in ("serve", "emulator", "migrate"):
        assert command in result.stdout


def test_the_emulator_prints_its_address_and_answers_there(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "emulator", "--port", "0", "--retention", "1d"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            match = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert match
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{match[0]}/v1beta/interactions/none", timeout=30)
            with caught.value as answer:
                assert answer.headers["x-upstream"] == "emulator"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: cannot listen" in refusal(run(tmp_path, "emulator", "--port", str(port)))
        assert "cannot listen" in refusal(run(tmp_path, "serve", "--emulator", "--port", str(port)))


def test_a_database_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}"
    assert "--database-url: " in refusal(run(tmp_path, "serve", "--emulator", "--database-url", url))


def test_migrating_makes_the_database(tmp_path: Path) -> None:
    result = run(tmp_path, "migrate", "--database-url", "sqlite:///made.db")
    assert result.returncode == 0, result.stderr
    assert f"made.db is at {SCHEMA_REVISION}" in result.stdout
    assert (tmp_path / "made.db").stat().st_size > 0


def test_a_revision_that_is_empty_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, "migrate", "--database-url", "sqlite:///made.db", "--revision", "")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith("expected a revision, such as head or 0012")
    assert not (tmp_path / "made.db").exists()


def test_migrating_goes_up_only_and_tells_how_far(tmp_path: Path) -> None:
    migrate = ("migrate", "--database-url", "sqlite:///made.db", "--revision")
    assert "made.db is at 0010\n" in run(tmp_path, *migrate, "0010").stdout
    assert "made.db is at 0011\n" in run(tmp_path, *migrate, "+1").stdout
    assert f"made.db is at {SCHEMA_REVISION}\n" in run(tmp_path, *migrate, "head").stdout
    for revision in ("0010", "base"):
        line = refusal(run(tmp_path, *migrate, revision))
        assert line.startswith(
            f"error: --revision {revision}: the database is at {SCHEMA_REVISION}, and going down"
        )
        assert f"alembic -x url=URL downgrade {revision}" in line
    assert f"made.db is at {SCHEMA_REVISION}\n" in run(tmp_path, *migrate, SCHEMA_REVISION).stdout


def test_a_revision_that_is_none_is_told_as_such(tmp_path: Path) -> None:
    for revision in ("nope", "0099", "+99", "head+1"):
        line = refusal(
            run(tmp_path, "migrate", "--database-url", "sqlite:///made.db", "--revision", revision)
        )
        assert line.startswith(f"error: --revision {revision}: ")
        assert line.endswith(f"write head, or one from 0001 to {SCHEMA_REVISION}")
        assert not (tmp_path / "made.db").exists()


UNUSABLE = ("postgresql://u:secret@127.0.0.1:5/db", "sqlite:///notes.txt")


def write_what_is_no_database(folder: Path, url: str) -> None:
    (folder / "notes.txt").write_text("not a database, " * 500, encoding="utf-8")
    (folder / "config.yaml").write_text(f"general_settings: {{database_url: '{url}'}}", encoding="utf-8")


@pytest.mark.parametrize("command", ["migrate", "reconcile", "logs"])
@pytest.mark.parametrize("url", UNUSABLE)
def test_a_database_that_cannot_be_used_is_named_by_what_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, url: str
) -> None:
    write_what_is_no_database(tmp_path, url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTERACTIONS_URL", raising=False)
    for arguments, environ, source in (
        ((), {"DATABASE_URL": url}, "DATABASE_URL"),
        (("--database-url", url), {}, "--database-url"),
        (("--config", "config.yaml"), {}, "general_settings.database_url"),
    ):
        # In this process: to start one takes longer.
        done = CliRunner().invoke(commands, (command, *arguments), env=environ)
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {source}: ")
        assert "secret" not in line


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_service_says_what_gave_it_a_database_that_cannot_be_used(tmp_path: Path, url: str) -> None:
    write_what_is_no_database(tmp_path, url)
    line = refusal(run(tmp_path, "serve", "--emulator", "--config", "config.yaml"))
    assert line.startswith("error: general_settings.database_url: ")
    assert "secret" not in line


def test_output_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "service", "serve", "--emulator", "--show-config"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: this cannot go on ([Errno 28] No space left on device)\n"
