"""The report as its readers get it: by HTTP, and by the command with its exit status."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from service.settings import Secret
from tests.api.conftest import (
    gateway_fixture,
    running_fixture,
    start_emulator_fixture,
    start_gateway,
    start_scripted_fixture,
    upstream_fixture,
)
from tests.support.gateway import Gateway
from tests.support.gateways import StartGateway
from tests.support.reconciling import assert_reconciles
from tests.support.upstreams import Emulated

__all__ = (
    "gateway_fixture",
    "running_fixture",
    "start_emulator_fixture",
    "start_gateway",
    "start_scripted_fixture",
    "upstream_fixture",
)

ROOT = Path(__file__).parents[2]


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "reconcile", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(command, *arguments, **environ)


async def used(gateway: Gateway, upstream: Emulated) -> None:
    """What all kinds of calls leave behind."""
    made = await gateway.ask()
    await gateway.ask(previous_interaction_id=made.id)
    await gateway.stream()
    await gateway.refused(429, fault="status;code=429")
    await gateway.delete((await gateway.ask()).id)
    cancelled = await gateway.ask(background=True, wish="background;queued=3600;running=3600")
    await gateway.cancel(cancelled.id)


async def test_what_calls_leave_behind_fits(gateway: Gateway, upstream: Emulated) -> None:
    await used(gateway, upstream)
    report = await assert_reconciles(gateway.database.url)
    reply = await gateway.request("GET", "/api/reconcile?from=1h&interval=hour")
    assert reply.status == 200
    assert reply.body["mismatches"] == []
    (figures,) = [figures for figures in reply.body["intervals"] if figures["accepted"]][-1:]
    assert sum(figures["outcomes"].values()) + figures["open"] == figures["accepted"]
    assert sum(one.accepted for one in report.figures) == 6


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("from=yesterday", "'from'"),
        ("to=x", "'to'"),
        ("from=1h&to=2h", "'from'"),
        ("interval=week", "'interval'"),
        ("from=1970-01-02&interval=minute", "'interval'"),
        ("project=x", "'project'"),
        ("form=1h", "'form'"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(gateway: Gateway, query: str, named: str) -> None:
    reply = await gateway.request("GET", f"/api/reconcile?{query}")
    assert (reply.status, named in reply.error["message"]) == (400, True), reply.raw


async def test_the_command_asks_the_database_or_the_service(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(upstream, master_key=Secret("a-private-key"))
    authorized = {"authorization": "Bearer a-private-key"}
    body = {"model": "gemini-2.5-flash", "input": "Hello"}
    made = await gateway.post(body, **authorized)
    whole = await run("--database-url", gateway.database.url)
    assert whole.returncode == 0, whole.stderr
    assert "0 mismatches" in whole.stdout
    asked = await run("--url", gateway.url, "--json", INTERACTIONS_MASTER_KEY="a-private-key")
    assert asked.returncode == 0, asked.stderr
    assert orjson.loads(asked.stdout)["intervals"][-1]["outcomes"] == {"completed": 1}
    named = await run(INTERACTIONS_URL=gateway.url, INTERACTIONS_MASTER_KEY="a-private-key")
    assert (named.returncode, "completed" in named.stdout) == (0, True), named.stderr
    refused = await run("--url", gateway.url, "--key", "wrong")
    assert (refused.returncode, "401" in refused.stderr) == (2, True)

    await gateway.database.damage(made.id)
    for arguments in (
        ("--database-url", gateway.database.url),
        ("--url", gateway.url, "--key", "a-private-key"),
    ):
        damaged = await run(*arguments)
        assert damaged.returncode == 1, damaged.stderr
        assert made.id in damaged.stdout
        assert "response_missing" in damaged.stdout


async def test_the_command_says_what_it_cannot_do(tmp_path: Path) -> None:
    both = await run("--url", "http://127.0.0.1:1", "--database-url", "sqlite:///x.db")
    assert both.returncode == 2
    nobody = await run("--url", "http://127.0.0.1:1")
    assert (nobody.returncode, "--url" in nobody.stderr) == (2, True)
    missing = tmp_path / "missing.db"
    absent = await run("--database-url", f"sqlite:///{missing}")
    assert (absent.returncode, "there is no file" in absent.stderr, missing.exists()) == (2, True, False)
    empty = tmp_path / "empty.db"
    empty.touch()
    unmade = await run("--database-url", f"sqlite:///{empty}")
    assert (unmade.returncode, "interactions migrate" in unmade.stderr) == (2, True)
    wrong = await run("--from", "yesterday")
    assert (wrong.returncode, "'from'" in wrong.stderr) == (2, True)
