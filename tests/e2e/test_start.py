"""The program from its start to its end, as whoever operates it sees it."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from service.store.migrate import SCHEMA_REVISION
from tests.support.processes import ServiceProcess

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "service"]
SCRIPT = [str(Path(sys.executable).with_name("interactions"))]
IDLE_BYTES = 100 * 1024 * 1024

Json = dict[str, Any]


def call(url: str, body: Json | None = None) -> Json:
    """GET, or POST a body; the answer must be a success."""
    data = None if body is None else orjson.dumps(body)
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        told: Json = orjson.loads(answer.read())
    return told


def run(program: list[str], *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself, where no variable but the path is set."""
    return subprocess.run(
        [*program, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def started(database_url: str, *arguments: str) -> ServiceProcess:
    return ServiceProcess(["serve", "--emulator", "--port", "0", "--database-url", database_url, *arguments])


@pytest.mark.parametrize("program", [MODULE, SCRIPT], ids=["module", "script"])
def test_without_an_upstream_it_refuses_and_says_what_to_set(program: list[str], tmp_path: Path) -> None:
    result = run(program, "serve", folder=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    for remedy in ("GEMINI_API_KEY", "--config", "--emulator"):
        assert remedy in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", [MODULE, SCRIPT], ids=["module", "script"])
def test_it_tells_its_version(program: list[str], tmp_path: Path) -> None:
    result = run(program, "--version", folder=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("interactions, version ")


def test_it_is_ready_when_it_says_where_it_listens(database_url: str) -> None:
    with started(database_url) as service:
        assert call(f"{service.url}/health/live") == {"status": "live"}
        assert call(f"{service.url}/health/ready") == {"status": "ready"}


def test_it_is_small_when_idle(database_url: str) -> None:
    with started(database_url) as service:
        call(f"{service.url}/health/ready")
        assert psutil.Process(service.pid).memory_info().rss < IDLE_BYTES


def test_it_ends_well_when_told_to_and_its_next_start_knows_everything(database_url: str) -> None:
    with started(database_url) as service:
        created = call(
            f"{service.url}/v1beta/interactions", {"model": "gemini-2.5-flash", "input": "Remember."}
        )
        assert service.stop() == 0
    with started(database_url) as service:
        assert call(f"{service.url}/v1beta/interactions/{created['id']}") == created
        assert service.stop() == 0
    assert not [line for line in service.log if "level=error" in line]


def test_a_stream_that_is_open_when_it_is_told_to_end_reaches_its_end(database_url: str) -> None:
    with started(database_url) as service:
        request = urllib.request.Request(
            f"{service.url}/v1beta/interactions",
            orjson.dumps({"model": "gemini-2.5-flash", "input": "Take your time.", "stream": True}),
            {"Content-Type": "application/json", "x-emulator-fault": "trickle;bytes=64;seconds=0.02"},
        )
        with urllib.request.urlopen(request, timeout=30) as stream, ThreadPoolExecutor() as threads:
            assert stream.readline() == b"event: interaction.created\n"
            status = threads.submit(service.stop)
            rest = stream.read()
            assert status.result() == 0
    assert b"event: interaction.completed\n" in rest
    assert rest.rstrip().endswith(b"data: [DONE]")


def test_a_database_that_was_migrated_before_serves(database_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        result = run(SCRIPT, "migrate", "--database-url", database_url, folder=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"is at {SCHEMA_REVISION}" in result.stdout
    with started(database_url) as service:
        assert call(f"{service.url}/health/ready") == {"status": "ready"}


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run(MODULE, "serve", "--emulator", "--port", port, folder=tmp_path)
    assert result.returncode == 2
    told = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert f"127.0.0.1:{port}" in told[0]
    assert "Traceback" not in result.stderr


def test_a_database_that_cannot_be_opened_is_told_in_one_line(tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path}/missing/interactions.db"
    result = run(MODULE, "serve", "--emulator", "--port", "0", "--database-url", nowhere, folder=tmp_path)
    assert result.returncode == 2
    assert "--database-url: " in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
