"""``python -m bench.streams``: what streams cost beside a direct connection and a pass-through that stores nothing.

All targets are there at the same time and are measured in turn, the others paused, round after round. Delays are
counted event by event from the moment that upstream put into it; what a target adds is its figure less the direct one
of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench import targets
from bench.databases import postgres
from bench.load import request_bytes
from bench.mock_stream import EVENTS
from bench.stream_load import Load, StreamClient, StreamResult, Tally
from bench.targets import Target

SPACING = 0.02
TEXT = 64
REQUEST = 1024
#: Streams at a time at which delays are measured, and those at which it is counted how many end.
DELAY_STREAMS = 100
MANY_STREAMS = 256
OPEN_STREAMS = 1000
#: Seconds that what is held open gets to come to rest before memory is read.
_REST = 3.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One target in one round."""

    result: StreamResult
    cpu_microseconds_per_event: float


def one_round(target: Target, streams: int, seconds: float) -> Measured:
    """Keep so many streams open for a while."""
    before = target.cpu_seconds()
    load = Load(target.port, streams, seconds=seconds, stream_seconds=EVENTS * SPACING)
    result = uvloop.run(load.measure())
    used = target.cpu_seconds() - before
    return Measured(result, used / max(1, result.events) * 1e6)


def rounds(compared: list[Target], count: int, streams: int, seconds: float) -> dict[str, list[Measured]]:
    """Measure all targets in turn, ``count`` times, after one round that does not count."""
    found: dict[str, list[Measured]] = {target.name: [] for target in compared}
    for number in range(count + 1):
        for target in compared:
            with target.alone(compared):
                measured = one_round(target, streams, seconds)
            if number:
                found[target.name].append(measured)
    return found


def report(found: dict[str, list[Measured]]) -> dict[str, dict[str, float]]:
    """Medians over the rounds; what is added or a share is taken round by round."""
    return {
        name: _figures(measured, found["direct"], found["pass-through"]) for name, measured in found.items()
    }


def _figures(measured: list[Measured], direct: list[Measured], yardstick: list[Measured]) -> dict[str, float]:
    def added(value: Callable[[StreamResult], float]) -> float:
        return _median(value(m.result) - value(d.result) for m, d in zip(measured, direct, strict=True))

    return {
        "completed_of_direct": _median(
            m.result.completed / max(1, d.result.completed) for m, d in zip(measured, direct, strict=True)
        ),
        "first_event_added_p50_ms": added(lambda result: result.first_p50_ms),
        "event_added_p50_ms": added(lambda result: result.delay_p50_ms),
        "event_added_p99_ms": added(lambda result: result.delay_p99_ms),
        "cpu_microseconds_per_event": _median(m.cpu_microseconds_per_event for m in measured),
        "cpu_of_pass_through": _median(
            m.cpu_microseconds_per_event / y.cpu_microseconds_per_event
            for m, y in zip(measured, yardstick, strict=True)
        ),
        "load_busy": _median(m.result.load_busy for m in measured),
        "errors": sum(m.result.errors for m in measured),
    }


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


async def _hold_open(port: int, streams: int) -> list[StreamClient]:
    tally = Tally()
    clients: list[StreamClient] = []
    request = request_bytes(port, REQUEST, stream=True)
    loop = asyncio.get_running_loop()
    for _ in range(streams):
        _, client = await loop.create_connection(
            lambda: StreamClient(request, tally, lambda client, whole: None), "127.0.0.1", port
        )
        client.start()
        clients.append(client)
        await asyncio.sleep(0.002)
    give_up = time.monotonic() + 60
    while tally.events < streams * EVENTS and time.monotonic() < give_up:
        await asyncio.sleep(0.1)
    if tally.events < streams * EVENTS:
        raise RuntimeError(f"only {tally.events} of {streams * EVENTS} events came")
    await asyncio.sleep(_REST)
    return clients


def memory(target: Target, streams: int) -> float:
    """KiB of resident memory for each of so many streams that are open and silent."""

    async def measure() -> int:
        # What is allocated once, whatever the number of streams, is not theirs.
        first = await _hold_open(target.port, 50)
        before = target.resident_bytes()
        rest = await _hold_open(target.port, streams)
        used = target.resident_bytes() - before
        for client in [*first, *rest]:
            client.streaming = False
            client.transport.abort()
        return used

    return round(uvloop.run(measure()) / streams / 1024, 1)


def run(count: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The whole benchmark."""
    with ExitStack() as stack:
        started = stack.enter_context
        database = started(postgres(folder))
        targets.bind_load()
        upstream = started(targets.stream_mock(folder, spacing=SPACING, text=TEXT))
        held = started(targets.stream_mock(folder, spacing=0.001, text=TEXT, hold=True))
        compared = [
            upstream,
            started(targets.pass_through(folder, upstream)),
            started(targets.service("sqlite", folder, upstream, f"sqlite:///{folder / 'streams.db'}")),
            started(targets.service("postgres", folder, upstream, database)),
        ]
        holding = targets.service("held", folder, held, f"sqlite:///{folder / 'held.db'}")
        stack.callback(holding.kill)
        return {
            f"{DELAY_STREAMS} streams": report(rounds(compared, count, DELAY_STREAMS, seconds)),
            f"{MANY_STREAMS} streams": report(rounds(compared, count, MANY_STREAMS, seconds)),
            "resident_kib_per_open_stream": memory(holding, OPEN_STREAMS),
            "of_which_content_kib": round((REQUEST + TEXT * EVENTS) / 1024, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = run(arguments.rounds, arguments.seconds, Path(folder))
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
