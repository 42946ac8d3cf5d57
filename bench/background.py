"""Ten thousand background runs open in one process: what following them costs, and how often upstream is asked.

The service runs in a process of its own, before an emulator in this one. All runs stay ``in_progress`` until the end of
the measurement; CPU is the service's alone, told by the operating system.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from time import monotonic

import psutil
import yaml
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from aiohttp.test_utils import TestServer

from service.emulator import CLOCK, Clock, EmulatorConfig, create_emulator
from service.emulator.keys import EMULATOR
from service.emulator.seen import SeenRequests
from tests.support.processes import ServiceProcess

_CLIENTS = 32
_DATABASE = "interactions.db"
_MINUTE = 60.0
_CREATE = {"model": "gemini-2.5-flash", "input": "A long task", "background": True}
_FOR_LONG = {"x-emulator-behavior": "background;queued=0;running=1000000"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=_MINUTE)
    parser.add_argument("--streams", type=int, default=0, help="runs that are followed by upstream's stream")
    return parser.parse_args()


def _configuration(folder: Path, upstream: str, streams: int) -> Path:
    entry = {"model": "gemini/*", "api_key": "key", "api_base": upstream}
    path = folder / "bench.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "model_list": [{"model_name": "*", "litellm_params": entry}],
                "general_settings": {
                    "port": 0,
                    "database_url": f"sqlite:///{folder / _DATABASE}",
                    "background_streams": streams,
                },
            }
        )
    )
    return path


async def _open_runs(url: str, number: int) -> None:
    """Begin that many runs."""
    left = iter(range(number))
    connector = TCPConnector(limit=_CLIENTS)
    async with ClientSession(url, connector=connector, timeout=ClientTimeout(total=60)) as session:

        async def client() -> None:
            for _ in left:
                async with session.post("/v1beta/interactions", json=_CREATE, headers=_FOR_LONG) as reply:
                    reply.raise_for_status()
                    await reply.read()

        await asyncio.gather(*(client() for _ in range(_CLIENTS)))


async def _all_completed(folder: Path) -> float:
    """Seconds until the store has every run's outcome."""
    began = monotonic()
    while _open_rows(folder):
        await asyncio.sleep(0.5)
    return monotonic() - began


def _open_rows(folder: Path) -> int:
    with closing(sqlite3.connect(f"file:{folder / _DATABASE}?mode=ro", uri=True)) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM interactions WHERE completed_at IS NULL")
    return int(count)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _measure(runs: int, seconds: float, streams: int) -> None:
    app = create_emulator(EmulatorConfig(stream_limit_seconds=1e9))
    with tempfile.TemporaryDirectory() as name:
        async with TestServer(app) as server:
            address = str(server.make_url("")).rstrip("/")
            path = _configuration(Path(name), address, streams)
            arguments = ["serve", "--config", str(path)]
            service = await asyncio.to_thread(lambda: ServiceProcess(arguments).wait_ready())
            try:
                await _observe(service, Path(name), app[EMULATOR].seen, app[CLOCK], runs, seconds)
            finally:
                await asyncio.to_thread(service.stop)


async def _observe(
    service: ServiceProcess, folder: Path, seen: SeenRequests, clock: Clock, runs: int, seconds: float
) -> None:
    process = psutil.Process(service.pid)
    began = monotonic()
    await _open_runs(service.url, runs)
    print(f"{runs} runs begun in {monotonic() - began:.0f} s; {process.memory_info().rss / 2**20:.0f} MiB")
    await asyncio.sleep(min(seconds, 30.0))
    seen.clear()
    cpu, began = _cpu(process), monotonic()
    await asyncio.sleep(seconds)
    used, took = _cpu(process) - cpu, monotonic() - began
    asked = [request.shown() for request in seen.after(0, None)]
    times = [float(request["at"]) for request in asked if request["method"] == "GET"]
    per_second = Counter(int(moment) for moment in times)
    counts = list(per_second.values())[1:-1] or [0]
    print(f"CPU of the service: {100 * used / took:.1f} % of one processor")
    print(
        f"polls: {60 * len(times) / took:.0f} a minute; in one second {min(counts)} to {max(counts)}, "
        f"median {statistics.median(counts):.0f}"
    )
    print(f"memory: {process.memory_info().rss / 2**20:.0f} MiB")
    clock.advance(2_000_000)
    print(f"all outcomes stored {await _all_completed(folder):.0f} s after upstream had them")


def main() -> None:
    given = _arguments()
    asyncio.run(_measure(given.runs, given.seconds, given.streams))


if __name__ == "__main__":
    main()
