"""``python -m bench``: throughput, latency, start-up and memory of the service beside what it is compared with.

All targets run at the same time and are measured in turn, round after round, so that a machine whose speed drifts
drifts for all of them. Ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench import targets
from bench.databases import postgres
from bench.load import measure
from bench.targets import Target

CONNECTIONS = 64
RATE = 300.0
MODEL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Round:
    """One target's figures in one round."""

    name: str
    requests_per_second: float
    cpu_microseconds: float
    p50_ms: float
    p99_ms: float
    errors: float


def one_round(target: Target, seconds: float, rate: float) -> Round:
    """Measure one target once; the load keeps to its own processor."""
    before = target.cpu_seconds()
    result = uvloop.run(measure(target.port, size=1024, connections=CONNECTIONS, seconds=seconds, rate=rate))
    used = target.cpu_seconds() - before
    return Round(
        target.name,
        result["requests_per_second"],
        used / max(1, result["requests"]) * 1e6,
        result["p50_ms"],
        result["p99_ms"],
        result["errors"],
    )


def rounds(compared: list[Target], count: int, seconds: float, rate: float) -> dict[str, list[Round]]:
    """Measure all targets in turn, ``count`` times, after one round that does not count."""
    found: dict[str, list[Round]] = {target.name: [] for target in compared}
    for number in range(count + 1):
        for target in compared:
            with target.alone(compared):
                measured = one_round(target, seconds, rate)
            if number:
                found[target.name].append(measured)
    return found


def median(values: list[float]) -> float:
    """The middle one."""
    return round(statistics.median(values), 3)


def throughput(compared: list[Target], count: int, seconds: float) -> dict[str, Any]:
    """Requests per second in a closed loop, and the ratio to the pass-through."""
    found = rounds(compared, count, seconds, 0.0)
    yardstick = found["pass-through"]
    return {
        name: {
            "requests_per_second": median([r.requests_per_second for r in measured]),
            "ratio_to_pass_through": median(
                [
                    r.requests_per_second / y.requests_per_second
                    for r, y in zip(measured, yardstick, strict=True)
                ]
            ),
            "cpu_microseconds": median([r.cpu_microseconds for r in measured]),
            "p50_ms": median([r.p50_ms for r in measured]),
            "p99_ms": median([r.p99_ms for r in measured]),
            "errors": sum(r.errors for r in measured),
        }
        for name, measured in found.items()
    }


def latency(compared: list[Target], count: int, seconds: float) -> dict[str, Any]:
    """Milliseconds added at a fixed rate with an upstream that takes its time."""
    found = rounds(compared, count, seconds, RATE)
    direct = found["direct"]
    return {
        name: {
            "p50_ms": median([r.p50_ms for r in measured]),
            "p99_ms": median([r.p99_ms for r in measured]),
            "added_p50_ms": median([r.p50_ms - d.p50_ms for r, d in zip(measured, direct, strict=True)]),
            "errors": sum(r.errors for r in measured),
        }
        for name, measured in found.items()
    }


def run(count: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The whole benchmark."""
    report: dict[str, Any] = {}
    with ExitStack() as stack:
        database = stack.enter_context(postgres(folder))
        targets.bind_load()
        started = stack.enter_context

        def compared(label: str, delay: float) -> list[Target]:
            upstream = started(targets.mock(folder, delay=delay))
            urls = {"sqlite": f"sqlite:///{folder / f'{label}.db'}", "postgres": database}
            services = [started(targets.service(n, folder, upstream, url)) for n, url in urls.items()]
            return [upstream, started(targets.pass_through(folder, upstream)), *services]

        group = compared("throughput", 0.0)
        time.sleep(1)
        again = targets.service("sqlite, second start", folder, group[0], f"sqlite:///{folder / 'idle.db'}")
        again.stop()
        again = started(targets.service("sqlite", folder, group[0], f"sqlite:///{folder / 'idle.db'}"))
        report["start"] = {
            "first_start_seconds": round(group[2].ready_after, 3),
            "ready_seconds": round(again.ready_after, 3),
            "idle_megabytes": round(again.resident_bytes() / 1e6, 1),
        }
        report["throughput"] = throughput(group, count, seconds)
        for target in group[1:]:
            target.kill()
        report["latency"] = latency(compared("latency", MODEL_SECONDS), count, seconds)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        report = run(arguments.rounds, arguments.seconds, Path(folder))
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
