"""``python -m bench.history``: what it costs to find a chain in a full database and to rebuild its conversation.

Two databases are filled alike: a million interactions in conversations of mixed length over two months, and between
them chains of 1, 10, 100 and 1000 links. Then, round after round, on each database and at each depth, in one event
loop: ``walk`` is the store's query for the chain with all bodies; ``rebuild`` is what a follow-up pays whose upstream
copy is gone: its parent found, the chain walked, the conversation put together, the body for upstream written.
The databases' caches are warm.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import uvloop
from sqlalchemy import Connection

from bench.databases import postgres
from bench.filling import DAYS, Filling, PostgresFilling, SqliteFilling, fill
from service import collector
from service.interactions.history import History
from service.interactions.media_restore import Media
from service.settings import DeploymentSettings, Secret, Settings
from service.store import migrate, partitions
from service.store.codec import Codec
from service.store.engine import open_backend, open_engine
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.store.writer import Writer
from service.upstream.client import GeminiClient
from service.upstream.deployments import Deployment, Deployments, build
from service.upstream.transport import Transport
from service.wire import codec
from service.wire.envelope import parse

#: How many chains there are of each depth; rounds take them in turn.
CHAINS = {1: 8, 10: 8, 100: 8, 1000: 8}
_SEED = 20261122
_WARM_UP = 16
#: Seconds between two looks at whether the event loop is free.
_BEAT = 0.001
_FOLLOW_UP = b'{"model":"gemini-2.5-flash","input":"And what follows from that?"}'

Tips = dict[int, list[bytes]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A filled database with what is measured on it."""

    name: str
    store: Store
    history: History
    deployment: Deployment

    async def walk(self, tip: bytes) -> float:
        """Seconds for the chain."""
        started = time.perf_counter()
        await self.store.chain(DEFAULT_PROJECT, tip)
        return time.perf_counter() - started

    async def rebuild(self, tip: bytes) -> tuple[float, int]:
        """Seconds for a follow-up's whole conversation as upstream gets it, and its size."""
        envelope = parse(_FOLLOW_UP)
        started = time.perf_counter()
        parent = await self.store.find(DEFAULT_PROJECT, tip)
        assert parent is not None
        conversation = await self.history.rebuilt_input(parent, envelope, envelope.body, self.deployment)
        raw = codec.dumps({**envelope.body, "input": conversation})
        return time.perf_counter() - started, len(raw)


@asynccontextmanager
async def subject(name: str, url: str) -> AsyncIterator[Subject]:
    """The store of a filled database, and a history on it whose upstream is never asked."""
    packing = Codec()
    backend = open_backend(url, packing, pool_limit=4)
    await backend.start()
    try:
        store = Store(backend, Writer(backend, limit=1), packing)
        client = GeminiClient(Transport(), request_timeout=1.0, stream_timeout=1.0)
        serving = DeploymentSettings(id="bench", model_name="*", model="*", api_key=Secret("bench"))
        deployments = Deployments(Settings(deployments=(serving,)), "bench")
        media = Media(store, deployments, 2**40)
        history = History(store, client, media, max_rebuild_bytes=2**40)
        yield Subject(name, store, history, build(serving, "bench"))
    finally:
        await backend.close()


async def filled(urls: Mapping[str, str], count: int, record: Path) -> Tips:
    """The newest links of the measured chains; what an earlier run left in the folder is used again."""
    for url in urls.values():
        await migrate.upgrade(url)
    if (known := _read_tips(record)) is not None:
        return known
    await _add_past_partitions(urls["postgres"])
    fillings: list[Filling] = [
        SqliteFilling(urls["sqlite"].removeprefix("sqlite:///")),
        await PostgresFilling.open(urls["postgres"]),
    ]
    tips = await fill(fillings, count, CHAINS, seed=_SEED)
    _write_tips(record, tips)
    return tips


def _read_tips(record: Path) -> Tips | None:
    if not record.exists():
        return None
    found = orjson.loads(record.read_bytes())
    return {int(depth): [bytes.fromhex(key) for key in keys] for depth, keys in found.items()}


def _write_tips(record: Path, tips: Tips) -> None:
    written = {str(depth): [key.hex() for key in keys] for depth, keys in tips.items()}
    record.write_bytes(orjson.dumps(written))


async def _add_past_partitions(url: str) -> None:
    """Partitions as they are after :data:`DAYS` days of service."""

    def make(connection: Connection) -> None:
        for days in range(DAYS + 1, 0, -partitions.DAYS_AHEAD):
            partitions.create_partitions(connection, datetime.now(UTC) - timedelta(days=days))

    engine = open_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(make)
    await engine.dispose()


async def timed(subjects: list[Subject], tips: Tips, rounds: int) -> dict[str, Any]:
    """Milliseconds of both kinds for each database and depth, round after round."""
    walks: dict[tuple[str, int], list[float]] = defaultdict(list)
    rebuilds: dict[tuple[str, int], list[float]] = defaultdict(list)
    sizes: dict[int, int] = {}
    for number in range(_WARM_UP + rounds):
        for each in subjects:
            for depth, keys in tips.items():
                tip = keys[number % len(keys)]
                # What came before was another database and another depth; this one is for the processor's caches.
                await each.rebuild(tip)
                walk = await each.walk(tip)
                rebuild, sizes[depth] = await each.rebuild(tip)
                if number >= _WARM_UP:
                    walks[each.name, depth].append(walk)
                    rebuilds[each.name, depth].append(rebuild)
    return {
        each.name: {
            str(depth): {
                "walk": milliseconds(walks[each.name, depth]),
                "rebuild": milliseconds(rebuilds[each.name, depth]),
                "rebuilt_bytes": sizes[depth],
            }
            for depth in tips
        }
        for each in subjects
    }


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """The middle and the 99th percentile."""
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return {"p50_ms": round(statistics.median(ordered) * 1000, 3), "p99_ms": round(high * 1000, 3)}


async def held(each: Subject, tips: list[bytes]) -> float:
    """The longest that one rebuild kept the event loop from everybody else, in milliseconds: median over the tips."""
    return round(statistics.median([await _longest_gap(each, tip) for tip in tips]) * 1000, 1)


async def _longest_gap(each: Subject, tip: bytes) -> float:
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_BEAT)
            longest = max(longest, time.perf_counter() - before - _BEAT)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(5 * _BEAT)
    longest = 0.0
    await each.rebuild(tip)
    await asyncio.sleep(2 * _BEAT)
    beating.cancel()
    return longest


async def peak_megabytes(each: Subject, tip: bytes) -> float:
    """What Python's allocator holds at most during one rebuild, above what it held before."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    await each.rebuild(tip)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round((peak - before) / 1e6, 1)


async def run(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Fill where needed, measure, report."""
    with postgres(folder) as server:
        urls = {"sqlite": f"sqlite:///{folder / 'history.db'}", "postgres": server}
        started = time.perf_counter()
        tips = await filled(urls, count, folder / "chains.json")
        print(f"filled after {time.perf_counter() - started:.0f} s", file=sys.stderr)
        async with AsyncExitStack() as stack:
            subjects = [await stack.enter_async_context(subject(name, url)) for name, url in urls.items()]
            gc.collect()
            collector.settle()
            deepest = max(tips)
            return {
                "interactions": count,
                "rounds": rounds,
                "depths": await timed(subjects, tips, rounds),
                "loop_held_ms": {each.name: await held(each, tips[deepest]) for each in subjects},
                "peak_megabytes": {
                    each.name: await peak_megabytes(each, tips[deepest][0]) for each in subjects
                },
            }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--keep", type=Path, help="a folder for the filled databases, used again when it has them"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder: Path = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = uvloop.run(run(folder, arguments.interactions, arguments.rounds))
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
