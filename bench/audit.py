"""``python -m bench.audit``: what lists, searches and reports take in a full database.

Both databases are filled alike with a million interactions of many kinds over the last sixty days, and everything that
is derived from them is put beside them as the indexer would: terms, documents, roll-ups. Then, again and again, in one
event loop: a page of 50 by each single filter, newest first and from the middle on; searches, by themselves and beside
a filter, by time and by rank; a month's usage by model and day. Nothing else runs, and the databases' caches are warm.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
import uvloop

from bench.audit_filling import AuditFilling
from bench.databases import postgres
from bench.filling import DAYS, Filling, PostgresFilling, SqliteFilling
from service import collector
from service.audit import filters, usage_request
from service.audit.late_figures import LateFigures
from service.audit.listing import Listing
from service.audit.prices import Prices
from service.audit.splitting import Splitting
from service.audit.usage import UsageReports
from service.audit.wanted import Order
from service.settings import Settings
from service.store import migrate
from service.store.codec import Codec
from service.store.engine import open_backend, open_engine, open_reports
from service.store.partitions import create_partitions
from service.store.reports import Reports
from service.store.tables import DEFAULT_PROJECT

FILTERS = (
    "",
    "status=failed",
    "status=completed",
    "model=gemini-2.5-pro",
    "model=gemini-rare",
    "model_requested=gemini-2.5-flash",
    "deployment=dep-3",
    "agent=deep-research",
    "error_code=rate_limit_exceeded",
    "error_code=any",
    "http_status=429",
    "service_tier=flex",
    "label:team=search",
    "label:user=user-777",
    "stream=true",
    "stream=false",
    "background=true",
    "store=false",
    "min_total_tokens=20000",
    "max_total_tokens=40",
    "min_input_tokens=1000&max_input_tokens=1100",
    "min_output_tokens=9000",
    "min_cost=0.05",
    "max_cost=0.0001",
    "min_duration=100",
    "max_duration=0.1",
    "min_first_event=1",
    "min_first_event=8",
    "min_thought_tokens=20000",
    "max_thought_tokens=0",
    "min_cached_tokens=1",
    "min_tool_use_tokens=5",
    "depth=20",
    "min_depth=12",
    "min_request_bytes=1000000",
    "max_response_bytes=10",
    "project=default",
    "key_id={key_id}",
    "key_id=any",
    "chain={follower}",
    "chain=any",
    "previous_interaction_id={previous}",
    "previous_interaction_id=any",
    "replay_of=any",
    "from=40d&to=39d",
)
SEARCHES = ("zebra", "committee", '"{phrase}"', "commit*", "zebra -committee", "zebra OR xylophone")
#: What searches are narrowed by: what means hundreds, thousands, tens of thousands and most of a million.
BESIDE = (
    "model=gemini-rare",
    "label:user=user-777",
    "error_code=rate_limit_exceeded",
    "status=failed",
    "key_id={key_id}",
    "min_cost=0.05",
    "model=gemini-2.5-flash",
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A filled database with what is measured on it."""

    name: str
    listing: Listing
    usage: UsageReports

    async def page(self, query: str, order: Order, cursor: str | None = None) -> str | None:
        chosen, _ = filters.parse(parse_qsl(query))
        _, behind = await self.listing.summaries(
            DEFAULT_PROJECT, chosen, order=order, limit=50, cursor=cursor
        )
        return behind

    async def some(self) -> dict[str, str]:
        """What filters can ask for by its id: of one that follows another."""
        chosen, _ = filters.parse([("previous_interaction_id", "any")])
        (told,), _ = await self.listing.summaries(DEFAULT_PROJECT, chosen, order="desc", limit=1, cursor=None)
        return {
            "key_id": told["key_id"],
            "follower": told["id"],
            "previous": told["previous_interaction_id"],
        }

    async def month(self, query: str) -> None:
        asked = usage_request.parse(parse_qsl(query))
        report = await self.usage.report(DEFAULT_PROJECT, asked.filters, asked.grouping, asked.zone)
        orjson.dumps(usage_request.told(asked, report))


async def timed(rounds: int, work: Callable[..., Awaitable[Any]], *given: Any) -> float:
    """The median of some executions, in milliseconds."""
    await work(*given)
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        await work(*given)
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


async def measure(subject: Subject, phrase: str, rounds: int) -> dict[str, float]:
    """Every measurement of one database, by its name."""
    found: dict[str, float] = {}
    some = await subject.some()
    for name in FILTERS:
        query = name.format(**some)
        found[f"list {name or 'all'}"] = await timed(rounds, subject.page, query, "desc")
        found[f"list {name or 'all'} oldest first"] = await timed(rounds, subject.page, query, "asc")
        middle = "&".join(part for part in (query, f"to={DAYS // 2}d") if part)
        if "to=" not in query:
            found[f"list {name or 'all'} from the middle on"] = await timed(
                rounds, subject.page, middle, "desc"
            )
    searches = [text.replace("{phrase}", phrase) for text in SEARCHES]
    narrowed = [f"{text}&{name.format(**some)}" for text in searches[:4] for name in BESIDE]
    orders: tuple[Order, ...] = ("desc", "rank")
    for kind, texts in (("search", searches), ("narrowed search", narrowed)):
        for text in texts:
            for order in orders:
                found[f"{kind} {text} by {'time' if order == 'desc' else 'rank'}"] = await timed(
                    rounds, subject.page, f"q={text}", order
                )
    since, until = f"{DAYS // 2 + 1}d", "1d"
    day = 86_400
    start = int(time.time()) // day * day - 31 * day
    times = f"from={start}&to={start + 30 * day}"
    found["usage of a month by model and day"] = await timed(
        rounds, subject.month, f"group_by=model,day&{times}"
    )
    found["usage of a month by model and day, tz Europe/Berlin"] = await timed(
        rounds, subject.month, f"group_by=model,day&tz=Europe/Berlin&from={since}&to={until}"
    )
    found["usage of a month by hour, tz Asia/Kolkata"] = await timed(
        rounds, subject.month, f"group_by=hour&tz=Asia/Kolkata&from={since}&to={until}"
    )
    found["usage of everything by label:team"] = await timed(rounds, subject.month, "group_by=label:team")
    return found


def shown(results: dict[str, dict[str, float]]) -> str:
    """All figures as a table, the largest of each kind last."""
    names = list(next(iter(results.values())))
    lines = [f"{'milliseconds, median':58}" + "".join(f"{name:>12}" for name in results)]
    lines += [
        f"{name:58}" + "".join(f"{figures[name]:12.2f}" for figures in results.values()) for name in names
    ]
    for kind in ("list", "search", "narrowed search", "usage"):
        some = [name for name in names if name.startswith(kind)]
        lines.append(
            f"{kind + ', slowest':58}"
            + "".join(f"{max(figures[name] for name in some):12.2f}" for figures in results.values())
        )
        lines.append(
            f"{kind + ', median of all':58}"
            + "".join(
                f"{statistics.median([figures[name] for name in some]):12.2f}" for figures in results.values()
            )
        )
    return "\n".join(lines)


@asynccontextmanager
async def subject(name: str, url: str) -> AsyncIterator[Subject]:
    """What is measured of one filled database."""
    reports: Reports = open_reports(url)
    await reports.start()
    try:
        prices = Prices.of(Settings())
        gc.collect()
        collector.settle()
        listing = Listing(reports, LateFigures(Codec(), prices))
        yield Subject(name, listing, UsageReports(reports, Codec(), prices))
    finally:
        await reports.close()


async def prepare(urls: dict[str, str]) -> None:
    """Migrate, and make the partitions of the past."""
    for url in urls.values():
        await migrate.upgrade(url)
    engine = open_engine(urls["postgres"])
    async with engine.connect() as connection:
        for days in range(DAYS + 2, 0, -14):
            moment = datetime.now(UTC) - timedelta(days=days)
            await connection.run_sync(create_partitions, moment)
    await engine.dispose()


async def split(url: str) -> None:
    """Split the hours that are over, as the service does when it has nothing else to do."""
    codec = Codec()
    reports, backend = open_reports(url), open_backend(url, codec, pool_limit=2)
    await reports.start()
    await backend.start()
    try:
        while await Splitting(backend, reports).step():
            pass
    finally:
        await backend.close()
        await reports.close()


async def run(folder: Path, count: int, rounds: int) -> str:
    """Fill both databases and measure."""
    results: dict[str, dict[str, float]] = {}
    async with AsyncExitStack() as stack:
        urls = {
            "sqlite": f"sqlite:///{folder / 'audit.db'}",
            "postgres": stack.enter_context(postgres(folder)),
        }
        await prepare(urls)
        filling = AuditFilling(random.Random(20_261_125))
        filled = folder / f"filled-{count}"
        if not filled.exists():
            started = time.perf_counter()
            fillings: list[Filling] = [
                SqliteFilling(str(folder / "audit.db")),
                await PostgresFilling.open(urls["postgres"]),
            ]
            await filling.fill(fillings, count)
            filled.touch()
            print(f"filled with {count:,} in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        for name, url in urls.items():
            await split(url)
            async with subject(name, url) as measured:
                results[name] = await measure(measured, filling.phrase, rounds)
    return shown(results)


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--keep", type=Path, help="a folder for the filled databases, used again when it has them"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder: Path = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(uvloop.run(run(folder, arguments.count, arguments.rounds)))


if __name__ == "__main__":
    main()
