"""``python -m bench.export``: what an export takes, in time and in memory, and what it costs the creates beside it.

Both databases are filled alike (``bench.audit_filling``). The service is started on each as users start it, and a
client reads an export of everything in each form, again and again; the memory of the service and of the
processes that do the export is looked at meanwhile. Then creates arrive at a fixed rate, alone,
beside an export and beside lists, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
import psutil
import uvloop

from bench import targets
from bench.audit import prepare
from bench.audit_filling import AuditFilling
from bench.databases import postgres
from bench.filling import DAYS, PostgresFilling, SqliteFilling
from bench.load import Run
from bench.targets import Target

FORMS = ("jsonl", "csv", "parquet")
RATE = 200.0
MODEL_SECONDS = 0.05
_PIECE = 1024 * 1024
_ACCEPTED = b"HTTP/1.1 200 OK"
_LAST_CHUNK = b"0\r\n\r\n"
_LIST_PAUSE = 0.1
#: Seconds between two looks at the memory, each of which costs some milliseconds.
_LOOK = 0.5
_OWN = get_context("spawn")


@dataclass(slots=True)
class Watched:
    """The most memory, in bytes, and the processor time, in seconds, of the service and of its export's processes.

    What the processes of an export share counts once.
    """

    service: int = 0
    processes: int = 0
    service_seconds: float = 0.0
    processes_seconds: float = 0.0

    async def watch(self, target: Target) -> None:
        """Look again and again, until cancelled."""
        service = psutil.Process(target.process.pid)
        before = target.cpu_seconds()
        while True:
            with suppress(psutil.NoSuchProcess):
                self.service = max(self.service, service.memory_info().rss)
                self.service_seconds = target.cpu_seconds() - before
                children = service.children(recursive=True)
                times = [child.cpu_times() for child in children]
                self.processes_seconds = max(
                    self.processes_seconds, sum(used.user + used.system for used in times)
                )
                self.processes = max(self.processes, sum(map(_memory, children)))
            await asyncio.sleep(_LOOK)


def _memory(process: psutil.Process) -> int:
    """Bytes resident, of what is shared its share, where the system tells that."""
    told = process.memory_full_info()
    size: int = getattr(told, "pss", told.rss)
    return size


@dataclass(frozen=True, slots=True)
class Exported:
    """One export: its bytes and seconds, and what it took."""

    size: int
    seconds: float
    took: Watched


async def export(target: Target, query: str) -> Exported:
    """Read an export to its end."""
    started = time.perf_counter()
    took = Watched()
    watching = asyncio.create_task(took.watch(target))
    try:
        size = await asyncio.to_thread(_read, target.port, query)
        return Exported(size, time.perf_counter() - started, took)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def _read(port: int, query: str) -> int:
    """The bytes of an answer, framing included: read as they come, so that the client takes little of the machine."""
    request = f"GET /api/export?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    piece = memoryview(bytearray(_PIECE))
    size, beginning, end = 0, b"", b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode())
        while count := connection.recv_into(piece):
            size += count
            beginning = beginning or bytes(piece[: len(_ACCEPTED)])
            end = (end + bytes(piece[max(0, count - len(_LAST_CHUNK)) : count]))[-len(_LAST_CHUNK) :]
    if beginning != _ACCEPTED or end != _LAST_CHUNK:
        raise RuntimeError(f"the export has no end, or was refused: {beginning!r} {end!r}")
    return size


async def _creates(target: Target, seconds: float) -> list[float]:
    run = Run(target.port, 1024)
    await run.open_loop(RATE, seconds)
    if run.errors:
        raise RuntimeError(f"{run.errors} creates failed")
    return run.latencies


async def beside(target: Target, seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of creates alone, beside an export and beside lists that go on all the time, in turns."""
    beside = {
        "alone": None,
        "beside an export": _exports,
        "beside ten lists a second": _ten_lists,
        "beside lists without a pause": _lists,
    }
    found: dict[str, list[float]] = {name: [] for name in beside}
    for _ in range(rounds):
        for name, others in beside.items():
            # The client has a process of its own: what it takes for reading is not the service's.
            client = None if others is None else _OWN.Process(target=others, args=(target.port,), daemon=True)
            if client is not None:
                client.start()
            await asyncio.sleep(1.5)
            found[name] += await _creates(target, seconds)
            if client is not None:
                client.kill()
                client.join()
    return {name: _percentiles(latencies) for name, latencies in found.items()}


def _exports(port: int) -> None:
    while True:
        with urlopen(f"http://127.0.0.1:{port}/api/export?format=jsonl&to=1h") as response:
            while response.read(_PIECE):
                pass


def _ten_lists(port: int) -> None:
    _lists(port, _LIST_PAUSE)


def _lists(port: int, pause: float = 0.0) -> None:
    """Pages of failures, one after the other."""
    cursor = ""
    while True:
        time.sleep(pause)
        with urlopen(f"http://127.0.0.1:{port}/api/interactions?status=failed&limit=50{cursor}") as response:
            following = orjson.loads(response.read())["next_cursor"]
        cursor = f"&cursor={following}" if following else ""


def _percentiles(latencies: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(latencies, n=100)
    return {"p50_ms": round(cuts[49] * 1000, 2), "p99_ms": round(cuts[98] * 1000, 2)}


async def measure(target: Target, count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one database."""
    found: dict[str, Any] = {}
    await export(target, "format=jsonl")
    for form in FORMS:
        some = [await export(target, f"format={form}") for _ in range(arguments.rounds)]
        tenth = await export(target, f"format={form}&from={DAYS // 10}d")
        found[form] = {
            "rows_per_second": round(max(count / one.seconds for one in some)),
            "median_rows_per_second": round(statistics.median(count / one.seconds for one in some)),
            "megabytes": round(some[0].size / 1e6, 1),
            "service_mb": round(max(one.took.service for one in some) / 1e6),
            "processes_mb": round(max(one.took.processes for one in some) / 1e6),
            "processes_mb_for_a_tenth": round(tenth.took.processes / 1e6),
            "service_us_per_row": round(min(one.took.service_seconds for one in some) / count * 1e6, 1),
            "processes_us_per_row": round(min(one.took.processes_seconds for one in some) / count * 1e6, 1),
        }
    if arguments.seconds:
        found["creates"] = await beside(target, arguments.seconds, arguments.rounds)
    return found


async def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fill both databases, start the service on each, and measure."""
    count: int = arguments.count
    report: dict[str, Any] = {}
    with ExitStack() as stack:
        urls = {
            "sqlite": f"sqlite:///{folder / 'audit.db'}",
            "postgres": stack.enter_context(postgres(folder)),
        }
        await prepare(urls)
        filled = folder / f"filled-{count}"
        if not filled.exists():
            filling = AuditFilling(random.Random(20_261_125))
            await filling.fill(
                [SqliteFilling(str(folder / "audit.db")), await PostgresFilling.open(urls["postgres"])], count
            )
            filled.touch()
        upstream = stack.enter_context(targets.mock(folder, delay=MODEL_SECONDS))
        for name, url in urls.items():
            with targets.service(name, folder, upstream, url, bound=False) as target:
                report[name] = await measure(target, count, arguments)
    return report


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(prog="python -m bench.export", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of creates; 0 leaves them out")
    parser.add_argument("--keep", type=Path, help="a folder for the filled databases, used again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder: Path = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(orjson.dumps(uvloop.run(run(folder, arguments)), option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
