"""Sets of replays, against a service whose upstream a test holds up or lets refuse."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import orjson

from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartGateway
from tests.support.upstreams import KEY, Emulated

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def replaying(
    gateway: Gateway | None, *arguments: str, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command in a process of its own, which a signal can reach; on a service, if there is one."""
    at = () if gateway is None else ("--url", gateway.url)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERACTIONS_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", "replay", *arguments, *at,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT, env={**kept, **environment},
        # A shell without job control has its children ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def with_one_under_way(gateway: Gateway, upstream: Emulated) -> list[str]:
    """Four interactions, of whose replays the third will wait for the upstream."""
    models = ("gemini-2.5-flash", "gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash")
    names = [(await gateway.ask("Tell me of tea", model=model)).id for model in models]
    upstream.clear()
    upstream.fault("latency;seconds=3600", count=0, contains="gemini-2.5-pro")
    return names


async def under_way(upstream: Emulated) -> None:
    async def is_waiting() -> bool:
        return upstream.asked == 3

    await eventually(is_waiting)


async def test_an_interrupt_leaves_the_report_of_what_was_sent(
    start_gateway: StartGateway, upstream: Emulated, tmp_path: Path
) -> None:
    gateway = await start_gateway(upstream)
    names = await with_one_under_way(gateway, upstream)
    file = tmp_path / "report.json"
    asked = (*names, "--concurrency", "1", "--report", "json", "--output", str(file))
    async with replaying(gateway, *asked) as process:
        await under_way(upstream)
        process.send_signal(signal.SIGINT)
        stdout, stderr = await process.communicate()
    upstream.release()
    assert (process.returncode, stdout) == (130, b"")
    told = orjson.loads(file.read_bytes())
    assert told["summary"] == (
        "4 replays: 0 could not be sent, 0 failed, 2 ended with the same status, 2 with the same text; interrupted, 1 "
        "were not sent, and what came of 1 is unknown"
    )
    assert told["summary"] in stderr.decode()
    first, second, unknown, left = told["replays"]
    assert [one["original"] for one in told["replays"]] == names
    assert first["comparison"]["text"]["same"]
    assert second["comparison"]["text"]["same"]
    assert f"interactions logs --replay-of {names[2]}" in unknown["error"]
    assert left["error"].startswith("not sent")


async def test_an_interrupt_leaves_the_table_as_well(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await start_gateway(upstream)
    names = await with_one_under_way(gateway, upstream)
    async with replaying(gateway, *names, "--concurrency", "1") as process:
        await under_way(upstream)
        process.send_signal(signal.SIGINT)
        stdout, stderr = await process.communicate()
    upstream.release()
    assert process.returncode == 130
    rows = [line.split("\t") for line in stdout.decode().splitlines()[1:]]
    assert [row[0] for row in rows] == names
    assert [row[2] for row in rows] == ["completed", "completed", "unknown", "not sent"]
    # Those that were not sent are counted, not told one by one.
    unknown, _ = stderr.decode().splitlines()
    assert unknown.startswith(f"{names[2]}: the command was interrupted before the answer came")


async def test_a_second_interrupt_ends_at_once(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await start_gateway(upstream)
    names = await with_one_under_way(gateway, upstream)
    serving = ("--database-url", gateway.database.url)
    environment = {"GEMINI_API_BASE": upstream.url, "GEMINI_API_KEY": KEY}
    async with replaying(None, *names, "--concurrency", "1", *serving, **environment) as process:
        await under_way(upstream)
        process.send_signal(signal.SIGINT)
        # The service that the command runs waits for longer than this for what it has begun.
        await asyncio.sleep(0.4)
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(120):
            await process.communicate()
    upstream.release()
    assert process.returncode in (-signal.SIGINT, 130)


async def told(gateway: Gateway, *arguments: str) -> tuple[str, str]:
    """What the command prints, and says beside it."""
    async with replaying(gateway, *arguments) as process:
        stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    return stdout.decode(), stderr.decode()


async def test_a_report_says_why_a_replay_was_refused(
    start_gateway: StartGateway, upstream: Emulated, tmp_path: Path
) -> None:
    gateway = await start_gateway(upstream)
    good, bad = [(await gateway.ask(text)).id for text in ("Tell me of tea", "Tell me of tin")]
    upstream.fault("status;code=400;error=invalid_request;message=No_<tin>_here", count=0, contains="tin")
    page, table = tmp_path / "report.html", tmp_path / "report.tsv"
    for form in ((), ("--diff",)):
        stdout, stderr = await told(gateway, good, bad, *form)
        head, first, second = [line.split("\t") for line in stdout.splitlines()[:3]]
        assert head[-1] == "error"
        assert (first[2], first[-1]) == ("completed", "")
        assert (second[2], second[-1]) == ("completed -> failed", "invalid_request: No_<tin>_here")
        why, summary = stderr.splitlines()
        assert why == f"{bad}: invalid_request: No_<tin>_here"
        assert summary.startswith("2 replays: 0 could not be sent, 1 failed, 1 ended with the same status")
    await told(gateway, good, bad, "--output", str(table))
    assert table.read_text().splitlines()[2].endswith("\tinvalid_request: No_<tin>_here")
    await told(gateway, good, bad, "--report", "html", "--output", str(page))
    assert "invalid_request: No_&lt;tin&gt;_here</p>" in page.read_text()
    assert "<tin>" not in page.read_text()


async def test_a_report_shows_both_sides_of_tool_calls_that_differ(
    start_gateway: StartGateway, upstream: Emulated, tmp_path: Path
) -> None:
    gateway = await start_gateway(upstream)
    tools = [{"type": "function", "name": "brew", "parameters": {"type": "object", "properties": {}}}]
    name = (await gateway.ask("Make some tea", tools=tools)).id
    other = orjson.dumps([{**tools[0], "name": "pour"}]).decode()
    stdout, _ = await told(gateway, name, "--with", f"tools={other}", "--diff")
    lines = stdout.splitlines()
    place = lines.index(f"--- {name} tool calls")
    assert [line.split(" ")[0] for line in lines[place + 2 :]] == ["-brew", "+pour"]
    page = tmp_path / "report.html"
    await told(gateway, name, "--with", f"tools={other}", "--report", "html", "-o", str(page))
    assert '<span class="removed">-brew {' in page.read_text()
    assert '<span class="added">+pour {' in page.read_text()
    stdout, _ = await told(gateway, name, "--with", f"tools={other}")
    assert "brew" not in stdout
