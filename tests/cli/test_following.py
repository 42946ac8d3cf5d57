"""`logs --follow` while the service that it asks is away, and comes back."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO
from urllib.request import Request, urlopen

import orjson
import pytest

from tests.support.processes import ServiceProcess
from tests.support.raw_server import Connection, answer, raw_server

ROOT = Path(__file__).parents[2]
KEY = "test-key"
EMPTY = b'{"interactions":[],"next_cursor":null}'


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def serving(port: int, folder: Path, key: str = KEY) -> ServiceProcess:
    """A service at an address on a database, which are the same every time."""
    database = f"sqlite:///{folder / 'interactions.db'}"
    arguments = ["serve", "--emulator", "--port", str(port), "--database-url", database]
    return ServiceProcess(arguments, {"INTERACTIONS_MASTER_KEY": key})


def create(service: ServiceProcess) -> str:
    body = orjson.dumps({"model": "gemini-2.5-flash", "input": "Tell me of tea"})
    with urlopen(Request(f"{service.url}/v1beta/interactions", body, {"x-api-key": KEY})) as reply:
        name: str = orjson.loads(reply.read())["id"]
        return name


def follow(url: str) -> list[str]:
    return [sys.executable, "-m", "service", "logs", "-f", "--json", "-n", "1", "--url", url, "--key", KEY]


def next_id(stream: IO[bytes] | None) -> str:
    assert stream is not None
    name: str = orjson.loads(stream.readline())["id"]
    return name


def test_a_service_that_is_away_is_waited_for_and_nothing_is_missed(tmp_path: Path) -> None:
    port = free_port()
    with serving(port, tmp_path) as service:
        first = create(service)
        following = subprocess.Popen(
            follow(service.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        assert following.stderr is not None
        assert next_id(following.stdout) == first
        second = create(service)
        assert next_id(following.stdout) == second
    with following:
        try:
            assert b"cannot be reached" in following.stderr.readline()
            with serving(port, tmp_path) as service:
                third = create(service)
                assert next_id(following.stdout) == third
                assert following.stderr.readline() == b"the service answers again\n"
            assert b"cannot be reached" in following.stderr.readline()
            # Its key is no key of this one, which will not change by asking again.
            with serving(port, tmp_path, "another-key"):
                rest, told = following.communicate()
        finally:
            following.kill()
    assert (following.returncode, rest) == (1, b"")
    assert told.startswith(b"error: ")
    assert len(told.splitlines()) == 1


async def test_a_refusal_that_passes_is_waited_for_and_another_one_is_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = [answer(EMPTY)] * 4
    busy = answer(b'{"error":{"message":"Busy."}}', "503 Service Unavailable", "Retry-After: 0")
    wrong = answer(b'{"error":{"message":"Wrong."}}', "400 Bad Request")
    answers = iter([*told, busy, busy, *told[:3], wrong])

    async def behave(connection: Connection) -> None:
        while await connection.request() is not None:
            await connection.send(next(answers))

    async with raw_server(behave) as server:
        status = await _ended(server.url)
    assert status == 1
    assert capfd.readouterr().err.splitlines() == [
        "warning: Busy; it is asked again until it answers",
        "the service answers again",
        "error: Wrong.",
    ]


async def test_a_service_that_is_not_there_at_first_is_not_waited_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert await _ended("http://127.0.0.1:9") == 1
    assert capfd.readouterr().err.startswith("error: the service cannot be reached")


async def _ended(url: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INTERACTIONS_")}
    process = await asyncio.create_subprocess_exec(*follow(url), cwd=ROOT, env=environment)
    return await process.wait()
