"""Imports over the network into a service whose bodies are bounded."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

from click.testing import CliRunner, Result

from service.cli.main import commands
from tests.support.gateway import Gateway
from tests.support.gateways import gateway_starter
from tests.support.store import query
from tests.support.upstreams import Emulated


async def command(*arguments: str) -> Result:
    """Run a command in a thread of this process: the service runs in it, too."""
    hidden = {name: None for name in os.environ if name.startswith("INTERACTIONS_")}
    return await asyncio.to_thread(CliRunner().invoke, commands, arguments, env=hidden)


async def exported(running: AsyncExitStack, upstream: Emulated, texts: list[str], folder: Path) -> Path:
    """A file of interactions, each with one of these texts."""
    gateway = await gateway_starter(running, f"sqlite:///{folder / 'first.db'}")(upstream)
    for text in texts:
        await gateway.ask(text)
    file = folder / "all.jsonl"
    done = await command("export", "--url", gateway.url, "-o", str(file))
    assert done.exit_code == 0, done.output
    return file


async def bounded(running: AsyncExitStack, upstream: Emulated, folder: Path, size: int) -> Gateway:
    """A service on another database that takes no larger bodies."""
    start = gateway_starter(running, f"sqlite:///{folder / 'second.db'}")
    return await start(upstream, max_body_bytes=size)


async def test_less_is_sent_at_once_to_a_service_that_takes_no_more(
    running: AsyncExitStack, upstream: Emulated, tmp_path: Path
) -> None:
    texts = [f"Tell me {number} of {'tea ' * 50_000}" for number in range(30)]
    file = await exported(running, upstream, texts, tmp_path)
    assert file.stat().st_size > 6_000_000
    gateway = await bounded(running, upstream, tmp_path, 300_000)
    done = await command("import", str(file), "--url", gateway.url)
    assert (done.exit_code, done.stderr) == (0, "30 imported, 0 there already\n")
    assert await query(gateway.database.url, "SELECT count(*) FROM interactions") == [(30,)]
    again = await command("import", str(file), "--url", gateway.url)
    assert again.stderr == "0 imported, 30 there already\n"


async def test_a_line_that_is_too_long_is_told_by_its_number(
    running: AsyncExitStack, upstream: Emulated, tmp_path: Path
) -> None:
    file = await exported(running, upstream, ["tea", "tea", "tea " * 20_000, "tea"], tmp_path)
    gateway = await bounded(running, upstream, tmp_path, 10_000)
    done = await command("import", str(file), "--url", gateway.url)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    size = len(file.read_bytes().splitlines(keepends=True)[2])
    assert line.startswith(f"error: Line 3: it has {size} bytes")
    assert "general_settings.max_body_bytes" in line
    assert line.endswith("; 2 interactions that came before are taken in")


async def test_what_a_service_has_accepted_it_can_take_in(
    running: AsyncExitStack, upstream: Emulated, tmp_path: Path
) -> None:
    size = 400_000
    start = gateway_starter(running, f"sqlite:///{tmp_path / 'first.db'}")
    gateway = await start(upstream, max_body_bytes=size)
    for number in range(2):
        await gateway.ask(f"{number}" + "tea " * (size // 4 - 100))
    file = tmp_path / "all.jsonl"
    await command("export", "--url", gateway.url, "-o", str(file))
    lines = file.read_bytes().splitlines(keepends=True)[:2]
    assert all(len(line) > size for line in lines)
    other = await bounded(running, upstream, tmp_path, size)
    # Those that come at once come one after the other.
    replies = await asyncio.gather(*(other.request("POST", "/api/import", data=line) for line in lines))
    assert [reply.body["imported"] for reply in replies] == [1, 1]
    expecting = await other.request("POST", "/api/import", data=lines[0], headers={"Expect": "100-continue"})
    assert (expecting.status, expecting.body["known"]) == (200, 1)
    done = await command("import", str(file), "--url", other.url)
    assert done.stderr == "0 imported, 2 there already\n"
    larger = await other.request("POST", "/api/import", data=b" " * (4 * size + 1))
    assert larger.status == 413
    create = await other.request("POST", "/v1beta/interactions", data=lines[0])
    assert create.status == 413
