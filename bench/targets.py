"""The processes that a benchmark puts side by side, each on a port of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

import psutil

_UPSTREAM = "direct"
_LISTENING = re.compile(r"listening on http://[^:]+:(\d+)")


@dataclass(frozen=True, slots=True)
class Target:
    """A running process that answers creates on a port."""

    name: str
    port: int
    process: subprocess.Popen[str]
    #: Seconds from start to the first accepted connection.
    ready_after: float

    def cpu_seconds(self) -> float:
        """CPU time used so far, all threads."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def resident_bytes(self) -> int:
        """Memory in use."""
        return psutil.Process(self.process.pid).memory_info().rss

    @contextmanager
    def alone(self, others: Iterable[Target]) -> Iterator[None]:
        """While this one is measured nobody else works, not even at what was put off before."""
        paused = [other for other in others if other is not self and other.name != _UPSTREAM]
        for other in paused:
            other.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for other in paused:
                other.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        """End the process at once, whatever it still has open."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@cache
def processors() -> tuple[set[int], set[int]]:
    """The processors for the load and the mock, and those for what is measured; the same ones where there is one."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    available = sorted(os.sched_getaffinity(0))
    return {available[0]}, {available[-1]}


def bind_load() -> None:
    """Keep this process to the load's processor; processes started before stay free."""
    if cpus := processors()[0]:
        os.sched_setaffinity(0, cpus)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    name: str,
    arguments: Sequence[str],
    port: int,
    log: Path,
    cpus: set[int],
    environment: dict[str, str] | None = None,
) -> Target:
    """Start a process on these processors and wait until it accepts connections."""
    started = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=output,
            stderr=output,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    if cpus:
        os.sched_setaffinity(process.pid, cpus)
    while time.perf_counter() < started + 60:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.005)
        else:
            return Target(name, port, process, time.perf_counter() - started)
    raise RuntimeError(f"{name} did not start:\n{log.read_text()}")


def mock(folder: Path, *, delay: float = 0.0, answer: int = 2048) -> Target:
    """The fast upstream."""
    return _upstream(folder, "bench.mock_upstream", delay=delay, answer=answer)


def stream_mock(folder: Path, *, spacing: float, text: int, hold: bool = False) -> Target:
    """The upstream that streams; with ``hold`` it never ends what it streams."""
    return _upstream(folder, "bench.mock_stream", spacing=spacing, text=text, hold=int(hold))


def _upstream(folder: Path, module: str, **options: float) -> Target:
    port = free_port()
    arguments = ["-m", module, "--port", str(port)]
    for name, value in options.items():
        arguments += [f"--{name}", str(value)]
    return start(_UPSTREAM, arguments, port, folder / f"mock-{port}.log", processors()[0])


def pass_through(folder: Path, upstream: Target) -> Target:
    """The yardstick."""
    port = free_port()
    arguments = [
        "-m",
        "bench.pass_through",
        "--port",
        str(port),
        "--upstream",
        f"http://127.0.0.1:{upstream.port}",
    ]
    return start("pass-through", arguments, port, folder / f"pass-{port}.log", processors()[1])


def service(name: str, folder: Path, upstream: Target, database_url: str, *, bound: bool = True) -> Target:
    """The service as users start it, bound to the processors of what is measured."""
    port = free_port()
    environment = {"GEMINI_API_KEY": "bench", "GEMINI_API_BASE": f"http://127.0.0.1:{upstream.port}"}
    arguments = ["-m", "service", "serve", "--port", str(port), "--database-url", database_url]
    cpus = processors()[1] if bound else set()
    return start(name, arguments, port, folder / f"service-{port}.log", cpus, environment)
